"""Decoding the evaluation tasks batched by length, beside one at a time in file order as KULLM's released code does.

    python benchmarks/generate.py WORK_FOLDER EVAL_FOLDER --tasks 252

WORK_FOLDER is one that `kollm run demo` made: its base decodes. Both ways run in this process, in turn; the answers must
be the same, and the ratio of their times is the result. One at a time is transformers' own beam search, as in that code.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kollm.answer.engines import transformers as generate
from kollm.answer.file import read_generations
from kollm.answer.local import Loading, System, generate_answers, load_system
from kollm.answer.presets import Decoding
from kollm.core.progress import quiet_libraries
from kollm.core.records import Record
from kollm.dataset.folder import read_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("evaluation")
    parser.add_argument("--tasks", type=int, default=252)
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", help="of the weights on a GPU; a processor decodes in float32")
    options = parser.parse_args()
    quiet_libraries()
    records = list(read_records(options.evaluation))[: options.tasks]
    system = load_system(str(options.work / "base"), prompt="kullm-2023", loading=Loading(options.dtype))
    _timed(records[:4], system, 4, 4)  # warm-up
    batched, answers = _timed(records, system, options.batch_size, options.max_new_tokens)
    generate.supports_beam_search = lambda network: False  # type: ignore[attr-defined]
    single, alone = _timed(records, system, 1, options.max_new_tokens)
    same = sum(answers[key] == alone[key] for key in alone)
    print(f"{len(records)} tasks, preset paper with {options.max_new_tokens} new tokens at most")
    print(f"| one at a time | {single:8.1f} s | {len(records) / single:6.2f} tasks/s |")
    print(f"| batches of {options.batch_size:3} | {batched:8.1f} s | {len(records) / batched:6.2f} tasks/s |")
    print(f"ratio {single / batched:.2f}; {same} of {len(alone)} answers the same")


def _timed(records: Sequence[Record], system: System, batch: int, tokens: int) -> tuple[float, dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generations.jsonl"
        started = time.perf_counter()
        generate_answers(records, system, path, Decoding("paper", tokens), batch_size=batch)
        seconds = time.perf_counter() - started
        return seconds, {generation.id: generation.response for generation in read_generations(path)}


if __name__ == "__main__":
    main()
