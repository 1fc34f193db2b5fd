"""Which files one row passes on its way through a build, and how often it moves from one to another.

    python benchmarks/row_path.py

The first Dolly row of the bundled sample is built by `kollm.build_dataset`. A function counts where one of its arguments is the row: the row
as it was read, its Record in English or Korean, or something that holds one of them. A move is a call in another file than
the one before.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import kollm
from kollm.core.records import Record

ROOT = Path(kollm.__file__).parent
SOURCE = kollm.SourceInput("dolly", "sample", memory="sample", limit=1)
MARKS = ("Find every e-mail address and URL", "이메일 주소와 URL을 모두 찾아", "dolly-0")
"""What the instruction of the sample's first row says, in English and in Korean, and its id."""


def holds_row(value: Any, depth: int = 2) -> bool:
    """Whether a value is the row, or holds it near its surface."""
    if isinstance(value, Record):
        return value.id == "dolly-0"
    if isinstance(value, str):
        return any(mark in value for mark in MARKS)
    if depth and isinstance(value, dict):
        return len(value) < 50 and any(holds_row(item, depth - 1) for item in value.values())
    if depth and isinstance(value, list | tuple):
        return len(value) < 50 and any(holds_row(item, depth - 1) for item in value)
    return False


class Trace:
    """The files of the calls that took the row along, in order."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(ROOT)):
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(holds_row(frame.f_locals.get(name)) for name in names):
            file = str(Path(code.co_filename).relative_to(ROOT))
            if not self.files or self.files[-1] != file:
                self.files.append(file)


def row_path() -> list[str]:
    """The files that the row passes in one build, in order; each differs from the one before."""
    trace = Trace()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "dataset"):  # the first for the imports
            try:
                sys.setprofile(trace if name == "dataset" else None)
                kollm.build_dataset([SOURCE], translator="memory", output=Path(folder) / name)
            finally:
                sys.setprofile(None)
    return trace.files


def main() -> None:
    files = row_path()
    print("\n".join(files))
    print(f"\n{len(set(files))} files, {len(files) - 1} moves")
    for file, count in Counter(files).most_common():
        print(f"{count:4} {file}")


if __name__ == "__main__":
    main()
