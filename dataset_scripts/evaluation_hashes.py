"""The n-gram hashes of the 252 evaluation tasks that kollm carries, from the tasks in English and in Korean.

    python dataset_scripts/evaluation_hashes.py EN.jsonl KO.jsonl -o kollm/quality/human_eval_hashes.npz

Only hashes are written, no text: they tell whether a row holds a task, not what the task is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kollm.core.records import Record
from kollm.quality.leaks import save_tasks, tasks_of
from kollm.sources import read_source


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="the tasks in Self-Instruct's form, a file a language")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    tasks = tasks_of([])
    for path in options.files:
        tasks += tasks_of(item for item in read_source("human_eval", path) if isinstance(item, Record))
    save_tasks(tasks, options.output)
    print(f"{len(tasks)} tasks, {len(tasks.hashes):,} hashes -> {options.output}")


if __name__ == "__main__":
    main()
