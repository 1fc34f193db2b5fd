"""A dataset with translated rows, its faults known, and the answers of two systems; and the server on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from kollm.core.files import json_line
from kollm.core.generations import Generation
from kollm.core.records import Original, Provenance, Record
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table

ATTACKS = [
    "<script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    "\"><svg onload=document.title='hacked'>",
    "</textarea><script>document.title='hacked'</script>",
    "</title></style><body onload=document.title='hacked'>",
    "javascript:document.title='hacked'",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;bold&lt;/b&gt; <b>bold</b>",
    "]]></x><!-- --><![CDATA[",
    "' OR 1=1 --",
    "\u202eevil\u202c right to left",
    "a" * 3000,
    "가" * 3000,
    "\u0300" * 500,
    "\x1b[31mred\x1b[0m",
    "<iframe srcdoc=\"<script>parent.document.title='hacked'</script>\"></iframe>",
    "<a href=\"javascript:document.title='hacked'\">click</a>",
    "<form action=/language method=post><button>x</button></form>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid'>",
    "<base href=https://example.invalid>",
    "<link rel=stylesheet href=https://example.invalid/a.css>",
    "<object data=x></object><embed src=x>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=document.title='hacked'>",
    "${document.title='hacked'}",
    "%3Cscript%3Edocument.title='hacked'%3C/script%3E",
    "<details open ontoggle=document.title='hacked'>",
    "<video><source onerror=document.title='hacked'></video>",
    "<input autofocus onfocus=document.title='hacked'>",
    "\ufeff\u200b<script >document.title='hacked'</script >",
]


def translated(number: int, english: str = "", korean: str = "") -> Record:
    """A sound translation, unless texts are given."""
    return Record(
        f"dolly-{number}",
        "dolly" if number % 3 else "gpt4_llm",
        f"수도 {number}에 대해 설명하세요.",
        "",
        korean or f"서울은 대한민국의 수도이며 {number}개의 구가 있습니다.",
        lang="ko",
        licence="CC-BY-SA-3.0",
        original=Original(
            f"Explain capital {number}.", "", english or f"Seoul is the capital of Korea and has {number} districts."
        ),
        provenance=Provenance(revision="abc", index=number, route="translate", engine="memory", mode="row", attempt=1),
    )


def write_dataset(folder: Path, records: list[Record], rejected: list[tuple[Record, str]] = []) -> Path:  # noqa: B006
    with DatasetWriter(folder) as writer:
        for start in range(0, len(records), 5000):
            part = records[start : start + 5000]
            for source in sorted({record.source for record in part}):
                rows = [record for record in part if record.source == source]
                writer.write(Part(source.replace("_", "-"), "train"), to_table(rows))
        if rejected:
            writer.write(
                Part("rejected", "train"), to_table([row for row, _ in rejected], [why for _, why in rejected])
            )
        return writer.publish({"sources": [], "dropped": {}, "mended": {}, "settings": {}}, "card")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """As `make_dataset`, for one test."""
    return make_dataset(tmp_path)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """As `make_answers`, for one test."""
    return make_answers(tmp_path)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all tests of a process: each starts in half a second. What one decides the others see."""
    folder = tmp_path_factory.mktemp("served")
    with serving(make_dataset(folder), make_answers(folder), cwd=folder) as server:
        yield server


def make_dataset(folder: Path) -> Path:
    """300 rows: three with faults, thirty attacks each in a row, all of them in one, two rejected ones."""
    rows = [translated(number) for number in range(300)]
    rows[5] = translated(5, "Pi is 3.14159 and e is 2.71828.", "파이는 무리수이고 자연상수도 그렇습니다.")
    rows[6] = translated(6, "Run `pip install kollm` first.", "먼저 설치하세요.")
    rows[7] = translated(
        7, "This sentence is not translated at all, sadly.", "This sentence is not translated at all, sadly."
    )
    for number, attack in enumerate(ATTACKS):
        rows[100 + number] = translated(100 + number, f"Text {attack}", f"글 {attack}")
    rows[150] = translated(150, "\n".join(("Text", *ATTACKS)), "\n".join(("글", *ATTACKS)))
    left_out = [(translated(900), "length_ratio: output"), (translated(901), "not_korean: output")]
    return write_dataset(folder / "ko-dolly", rows, left_out)


def make_answers(place: Path) -> Path:
    """A work folder with the answers of two systems to 40 tasks, attacks among them."""
    folder = place / "run"
    folder.mkdir()
    lines = []
    for number in range(40):
        for system in ("adapter", "base"):
            attack = ATTACKS[number] if number < len(ATTACKS) else ""
            answer = f"{'좋은' if system == 'adapter' else '나쁜'} 답 {number} {attack}"
            lines.append(
                json_line(
                    Generation(
                        f"t-{number}", f"질문 {number} {attack}", "", answer, "m", "", {}, "stop", system
                    ).to_row()
                )
            )
    (folder / "generations.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


class Served(NamedTuple):
    """A running server: its link, its process, and the folder that it was started in."""

    link: str
    process: subprocess.Popen[str]
    folder: Path

    @property
    def root(self) -> str:
        return self.link.partition("/?")[0]

    @property
    def token(self) -> str:
        return self.link.partition("token=")[2]


@contextmanager
def serving(*folders: Path | str, cwd: Path | None = None) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kollm", "app", *map(str, folders)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        cwd=cwd,
    )
    assert process.stderr is not None
    try:
        link = ""
        while not link:
            line = process.stderr.readline()
            assert line, "the server ended before it printed its link"
            link = line.partition("kollm app: ")[2].strip()
        yield Served(link, process, cwd or Path.cwd())
    finally:
        process.terminate()
        process.communicate(timeout=120)


def decisions_in(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
