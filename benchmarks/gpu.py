"""The GPU's twelve minutes: everything that only a card can tell, in the order of what it tells most.

    python benchmarks/gpu.py --minutes 12 --out OUT [--rows ../shared/data/alpaca_gpt4_en_1000.json] [--scratch /dev/shm]

Each part's lines are written to OUT/parts.jsonl when it ends, so that the same command, killed or out of time, goes on with what is missing; a
part that would not end in time is not begun. The last thing printed, OUT/RESULTS.md too, is a section for benchmarks/RESULTS.md that
says what was not reached. Without a GPU the same parts run in minutes at tiny shapes on a processor: a try of the script, no result.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from train_gpu import (  # type: ignore[import-not-found]  # beside this script
    HEAD,
    MEAN,
    MODELS,
    ON_GPU,
    RULE,
    Card,
    be_quiet,
    clean,
    line,
    make_base,
    make_examples,
    make_recipe,
    wait,
)
from transformers import PreTrainedTokenizerFast

from kollm.answer.engines import Asked, Weights, load_engine
from kollm.answer.presets import Decoding
from kollm.core.files import read_json
from kollm.core.version import __version__
from kollm.recipe.bases import BASES, BaseFacts
from kollm.services.local_model import LocalModel
from kollm.train.data import Example
from kollm.train.job import make_trainer
from kollm.train.model import load_model
from kollm.train.sft import TrainingRows, trainer_config

CHECKOUT = Path(__file__).parents[1]
ALL = "adapter.targets=[query_key_value,dense,dense_h_to_4h,dense_4h_to_h]"
LLAMA = "adapter.targets=[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"
SHAPES: dict[str, BaseFacts] = {
    **{short: BASES[name] for short, name in MODELS.items()},
    "1.3b": BASES["EleutherAI/polyglot-ko-1.3b"],
    "llama-7b": BASES["meta-llama/Llama-2-7b-hf"],
}
TABLE = {
    "5.8b": [
        "",
        "trainer.torch_compile=true",
        f"{ALL} trainer.per_device_train_batch_size=2",
        f"{ALL} trainer.per_device_train_batch_size=2 trainer.torch_compile=true",
        "trainer.packing=false trainer.per_device_train_batch_size=8",
        "quantization=nf4",
        "quantization=int8",
        "trainer.per_device_train_batch_size=8",
    ],
    "12.8b": ["", "trainer.torch_compile=true", "trainer.per_device_train_batch_size=4"],
}
"""What each line of the training table overrides of the -fast recipe."""
MEMORY = [
    ("5.8b", "trainer.gradient_checkpointing=true"),
    ("5.8b", "adapter.method=ia3 trainer.per_device_train_batch_size=2"),
    ("llama-7b", f"{LLAMA} trainer.per_device_train_batch_size=1"),
    ("1.3b", "adapter.method=full trainer.gradient_checkpointing=true trainer.per_device_train_batch_size=1"),
]
"""Settings that `kollm plan` counts and nobody has measured: the base's shape, and what is overridden."""


@dataclass(slots=True)
class Bench:
    """What the parts share: the card, the rows, where bases are, and how large a try is."""

    options: argparse.Namespace
    card: Card
    examples: list[Example]
    scratch: Path
    bases: dict[str, Path] = field(default_factory=dict)

    def facts(self, short: str) -> BaseFacts:
        if ON_GPU:
            return SHAPES[short]
        kind = SHAPES[short].architecture
        return BaseFacts(short, kind, 2, 64, 2, 128, 512, 256, "unknown")

    def base(self, short: str) -> Path:
        """A base's folder; one of random weights is made the first time."""
        if short not in self.bases:
            for old in self.bases.values():  # one at a time: 26 GB for 12.8B
                for file in old.iterdir():
                    file.unlink()
            self.bases = {short: make_base(self.facts(short), self.scratch / short)}
        return self.bases[short]


class Part(NamedTuple):
    """One thing to find out.

    Attributes:
        name: of the part; lines of one table begin alike.
        seconds: that it takes on an H100, with its start.
        work: gives the lines of the results.
    """

    name: str
    seconds: float
    work: Callable[[Bench], list[str]]


def parts() -> Iterator[Part]:
    """All parts, what tells most first."""
    yield Part("tests", 150, _tests)
    for variant in TABLE["5.8b"]:
        yield Part(f"train 5.8b {variant}".rstrip(), 30, lambda bench, v=variant: _train(bench, "5.8b", v))
    yield Part("losses compiled", 60, _losses)
    yield Part("generate", 60, _generate)
    yield Part("generate vllm", 120, _vllm)
    for short, variant in MEMORY:
        yield Part(f"train {short} {variant}", 45, lambda bench, s=short, v=variant: _train(bench, s, v))
    for variant in TABLE["12.8b"]:
        yield Part(f"train 12.8b {variant}".rstrip(), 50, lambda bench, v=variant: _train(bench, "12.8b", v))


def _tests(bench: Bench) -> list[str]:
    """What must be right on a card before it is fast; in a process of its own, since it fills the memory on purpose."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/train/exact/test_gpu.py"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=bench.options.left())
    failed = [row for row in done.stdout.splitlines() if row.startswith("FAILED")]
    return [f"`tests/train/exact/test_gpu.py`: {done.stdout.strip().splitlines()[-1]}", *failed]


def _train(bench: Bench, short: str, variant: str) -> list[str]:
    recipe = make_recipe("12.8b" if short == "12.8b" else "5.8b", variant, bench.options)
    return [line(short, variant, recipe, bench.base(short), bench.examples, bench.options, bench.card)]


def _losses(bench: Bench) -> list[str]:
    """Whether compiled layers train the same: the largest relative difference of the loss over fifty steps."""
    steps = 50 if ON_GPU else 3
    runs = []
    for compiled in ("false", "true"):
        options = argparse.Namespace(step_rows=8, warm_up=0, steps=steps)
        settings = f"trainer.torch_compile={compiled} trainer.logging_steps=1 adapter.dropout=0.0"
        recipe = make_recipe("5.8b", settings, options)
        base = bench.base("5.8b")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
        with tempfile.TemporaryDirectory() as folder:
            config = trainer_config(recipe, Path(folder))
            model = load_model(recipe, LocalModel(base, str(base)), tokenizer)
            trainer = make_trainer(recipe, config, model, TrainingRows(bench.examples, [], tokenizer), 1)
            trainer.train()
        runs.append(np.asarray([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
        del model, trainer
        clean()
    apart = float((np.abs(runs[0] - runs[1]) / runs[0]).max())
    return [
        f"Losses with compiled layers and without, {steps} steps of 8 rows: apart by {apart:.1e} at most (goal 1e-3)."
    ]


def _prompts(bench: Bench) -> list[list[int]]:
    count, longest = (64, 400) if ON_GPU else (4, 20)
    return [example.input_ids.tolist()[:longest] for example in bench.examples[:count]]


def _timed(bench: Bench, engine: Any, preset: str, batch: int, tokens: int) -> tuple[float, list[list[int]]]:
    """New tokens a second, and the answers."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(bench.base("5.8b"))
    prompts = sorted(_prompts(bench), key=len, reverse=True)
    params = Decoding(preset, tokens).params()
    answers: list[list[int]] = []
    wait()
    started = time.perf_counter()
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        answers += engine.answer(Asked(some, [start + place for place in range(len(some))], params, (0,), tokenizer))
    wait()
    return sum(map(len, answers)) / (time.perf_counter() - started), answers


def _generate(bench: Bench) -> list[str]:
    """Tokens a second by batch, and how many answers of bf16 change with the batch's shape."""
    base = bench.base("5.8b")
    engine = load_engine("transformers", Weights(LocalModel(base, str(base)), None, 0, "bfloat16"))
    tokens = 64 if ON_GPU else 4
    lines = []
    for preset in ("greedy", "paper"):
        alone_rate, alone = _timed(bench, engine, preset, 1, tokens)
        for batch in (8, 32):
            rate, answers = _timed(bench, engine, preset, batch, tokens)
            same = sum(one == other for one, other in zip(alone, answers, strict=True))
            lines.append(
                f"| transformers | {preset} | {batch} | {rate:,.0f} | {alone_rate:,.0f} | {same} of {len(alone)} |"
            )
    del engine
    clean()
    return lines


def _vllm(bench: Bench) -> list[str]:
    if importlib.util.find_spec("vllm") is None:
        return ["vLLM is not installed here: nothing was measured with it."]
    base = bench.base("5.8b")
    engine = load_engine("vllm", Weights(LocalModel(base, str(base)), None, 0, "bfloat16"))
    rate, answers = _timed(bench, engine, "greedy", 512, 64)
    return [f"| vllm | greedy | its own | {rate:,.0f} | | {len(answers)} answers |"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--rows", type=Path, help="JSON in Alpaca form, for the lengths of its rows; else made ones")
    parser.add_argument("--scratch", type=Path, help="where the bases are saved; a temporary folder by default")
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--skip", default="nothing", help="parts whose name does not begin so")
    options = parser.parse_args(arguments)
    ends = time.monotonic() + 60 * options.minutes
    options.left = lambda: max(ends - time.monotonic(), 1.0)
    options.step_rows, options.warm_up, options.steps, options.profile = (
        (64, 1, 2, False) if ON_GPU else (4, 1, 1, False)
    )
    options.out.mkdir(parents=True, exist_ok=True)
    be_quiet()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if not ON_GPU:
        torch.compiler.set_stance("force_eager")  # compiling for a processor takes minutes and tells nothing
    card = Card.here()
    print(card.sentence(), flush=True)
    file = options.out / "parts.jsonl"
    done = _read(file, card.name)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        bench = Bench(options, card, _rows(options.rows), Path(scratch))
        for part in parts():
            if part.name in done or not part.name.startswith(options.only) or part.name.startswith(options.skip):
                continue
            if ON_GPU and options.left() < part.seconds:
                print(f"{part.name}: not begun, {options.left():.0f} s are left", flush=True)
                continue
            started = time.monotonic()
            try:
                lines, fault = part.work(bench), ""
            except Exception as error:  # one part's fault is a result too, and no reason to lose the others
                lines, fault = [], f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                clean()
            seconds = round(time.monotonic() - started, 1)
            entry = {"part": part.name, "card": card.name, "seconds": seconds, "lines": lines, "fault": fault}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")
            print(f"[{seconds:.0f} s] {part.name}: {fault or ' '.join(lines)}", flush=True)
            done = _read(file, card.name)
    section = _section(card, file)
    (options.out / "RESULTS.md").write_text(section, encoding="utf-8")
    print(f"\n{section}")
    return int(any(entry["fault"] for entry in _entries(file)))


def _rows(path: Path | None) -> list[Example]:
    if path is not None and ON_GPU:
        return make_examples(read_json(path))
    letters = np.random.default_rng(0).lognormal(6, 0.8, 999).astype(int) % 6000 + 40
    rows = [{"instruction": "a" * count, "input": "", "output": ""} for count in letters]
    return make_examples(rows) if ON_GPU else make_examples(rows[:40], MEAN // 14, 500)


def _entries(file: Path) -> list[dict[str, Any]]:
    rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    return list({row["part"]: row for row in rows}.values())  # the last try of each


def _read(file: Path, card: str) -> dict[str, list[str]]:
    """What is there of this card, without faults."""
    return {row["part"]: row["lines"] for row in _entries(file) if row["card"] == card and not row["fault"]}


def _section(card: Card, file: Path) -> str:
    """A section of RESULTS.md."""
    there = _read(file, card.name)
    faults = {row["part"]: row["fault"] for row in _entries(file) if row["fault"]}
    missing = [part.name for part in parts() if part.name not in there and part.name not in faults]

    def lines(*beginnings: str) -> list[str]:
        return [row for name, rows in there.items() if name.startswith(beginnings) for row in rows]

    tried = "" if ON_GPU else " **No GPU: a try of the script at tiny shapes, whose figures mean nothing.**"
    text = [
        f"### On one GPU, kollm {__version__}, {time.strftime('%Y-%m-%d')}",
        "",
        "    python benchmarks/gpu.py --minutes 12 --out OUT",
        "",
        f"{card.sentence()}.{tried}",
        "",
        *lines("tests"),
        "",
        HEAD,
        RULE,
        *lines("train"),
        "",
        *lines("losses"),
        "",
        "| engine | preset | batch | new tokens/s | one at a time | answers as one at a time, bf16 |",
        "|---|---|---|---:|---:|---|",
        *[row for row in lines("generate") if row.startswith("|")],
        "",
        *[row for row in lines("generate") if not row.startswith("|")],
        *[f"Failed: {name} ({fault})." for name, fault in faults.items()],
        f"Not reached: {'; '.join(missing) or 'nothing'}.",
    ]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
