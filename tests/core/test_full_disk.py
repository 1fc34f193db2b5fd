"""A disk that takes no more: one sentence with the path, nothing half-written, and what was there before stays."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kollm.core.files import JsonlAppender, read_jsonl
from tests.report.fabricate import make_work_folder
from tests.train.conftest import row, write_dataset

AT_NIGHT = pytest.mark.nightly("tests/core/test_full_disk.py::test_a_full_disk_is_a_sentence_and_leaves_nothing")
SIZES = (pytest.param(0, marks=AT_NIGHT), 700, pytest.param(9_000, marks=AT_NIGHT))
"""Bytes from which on a file cannot grow, which programs meet as they meet a full disk."""


def limited(size: int, *command: object) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": "/nonexistent"}
    command = (sys.executable, "-m", "kollm", *map(str, command))
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=limit)


def files(folder: Path) -> dict[str, bytes]:
    """What stands there, less the work folder of a build, whose files are whole: the same command goes on with them."""
    there = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].endswith(".shards")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in there}


def build(folder: Path, output: Path) -> tuple[object, ...]:
    return ("data", "build", "gpt4_llm", "--input", "sample", "--memory", "sample", "--processes", "0", "-o", output)


def review(folder: Path, output: Path) -> tuple[object, ...]:
    return (
        "data",
        "review",
        write_dataset(folder / "d", [row(n, original=_english(n)) for n in range(40)]),
        "-o",
        output,
    )


def _english(number: int) -> object:
    from kollm.core.records import Original

    return Original(f"Weigh 3.75 pounds, {number}", "", "It is 12.5")


def report(folder: Path, output: Path) -> tuple[object, ...]:
    return ("report", make_work_folder(folder / "run", tasks=12), "-o", output.with_suffix(".html"))


def corpus(folder: Path, output: Path) -> tuple[object, ...]:
    (folder / "text.txt").write_text("\n\n".join(f"가을 하늘 {n} " * 30 + os.urandom(300).hex() for n in range(99)))
    return ("data", "corpus", folder / "text.txt", "-o", output)


def templates(folder: Path, output: Path) -> tuple[object, ...]:
    rows = [{"text": f"좋은 영화 {n}", "label": "긍정", "choices": "긍정, 부정"} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(item) + "\n" for item in rows))
    options = ("--task", "classification", "--licence", "MIT", "-o", output)
    return ("data", "synthesize", "templates", folder / "rows.jsonl", *options)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [build, review, report, corpus, templates])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    make: Callable[[Path, Path], tuple[object, ...]], size: int, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "place").mkdir()
    command = make(tmp_path / "in", tmp_path / "place" / "out")
    done = limited(size, *command)
    assert done.returncode == 1, done.stdout
    [said] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert str(tmp_path / "place") in said and "File too large" in said, said
    assert "Traceback" not in done.stderr and "bug" not in said
    left = {name: data for name, data in files(tmp_path / "place").items() if not name.endswith((".json", ".md"))}
    assert left == {}


@pytest.mark.slow
def test_an_earlier_dataset_stays_where_the_disk_is_full(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", [row(1)])
    before = files(tmp_path)
    done = limited(5000, *build(tmp_path, folder))
    assert done.returncode == 1 and str(tmp_path) in done.stderr and "File too large" in done.stderr
    assert files(tmp_path) == before


def test_a_row_that_does_not_fit_leaves_the_rows_before_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kollm.core.files import JsonlAppender\n"
        "with JsonlAppender(Path(sys.argv[1])) as file:\n"
        "    for number in range(100): file.append({'number': number, 'text': '가' * 50})\n"
    )
    path = tmp_path / "rows.jsonl"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, preexec_fn=limit)
    assert f"StateError: '{path}' cannot be used (File too large)" in done.stderr
    rows = list(read_jsonl(path))
    assert [item["number"] for item in rows] == list(range(len(rows))) and 5 < len(rows) < 10
    assert path.read_bytes().endswith(b"}\n")
    with JsonlAppender(path) as file:
        file.append({"number": len(rows)})
    assert len(list(read_jsonl(path))) == len(rows) + 1
