"""What pages left in conversations goes, what people wrote stays; exports of all forms are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kollm.core.records import Record
from kollm.sources import Rejected, read_source
from kollm.sources.page_leftovers import without_leftovers


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "Here you go:\n\nbash\nCopy code\nls -la\n\nIt lists files.",
            "Here you go:\n\n```bash\nls -la\n```\n\nIt lists files.",
        ),
        ("2 / 2\nThe sun is a star.", "The sun is a star."),
        ("Share Prompt\nCopy code\nOnce upon a time there was a fox.\n1 / 1", "Once upon a time there was a fox."),
        (
            "python\nCopy code\ndef f(x):\n    return x\n\nprint(f(2))\nbash\nCopy code\npython f.py\n",
            "```python\ndef f(x):\n    return x\n\nprint(f(2))\n```\n```bash\npython f.py\n```",
        ),
        ("```python\nCopy code\nx = 1\n```\nDone.", "```python\nx = 1\n```\nDone."),
        ("```pythonCopy code\nx = 1\n```", "```python\nx = 1\n```"),
        ("Fine.\nRegenerate response\nChatGPT may produce inaccurate information about people.", "Fine."),
        ("코드 복사\nx = 1\n\n설명입니다 이것은 예입니다.", "```\nx = 1\n```\n\n설명입니다 이것은 예입니다."),
        ("Half of it is\n1 / 2\nas you see.", "Half of it is\n1 / 2\nas you see."),
        ("To copy code, press Ctrl+C.\nShare prompts with friends.", "To copy code, press Ctrl+C.\nShare prompts with friends."),
        ("```\nCopy code\n```", "```\n```"),
        ("Nothing here.  \n", "Nothing here.  \n"),
    ],
)  # fmt: skip
def test_leftovers(text: str, clean: str) -> None:
    assert without_leftovers(text) == clean


def test_long_texts_take_linear_time() -> None:
    for piece in (
        "Copy code\n",
        "python\nCopy code\nx\n",
        "```",
        "1 / 2\n",
        "Copy1 chars / ",
        "Share Prompt\n\n",
        "\n",
        "\r\n",
    ):
        assert len(without_leftovers(piece * 20_000)) <= len(piece) * 40_000


def read(tmp_path: Path, rows: list[Any], **options: Any) -> list[Record | Rejected]:
    file = tmp_path / "talks.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return list(read_source("sharegpt", file, **options))


def turns(*texts: str, names: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": names[number % 2], "value": text} for number, text in enumerate(texts)]


def test_exports_of_all_forms(tmp_path: Path) -> None:
    system = {"from": "system", "value": "You are a pirate."}
    found = read(
        tmp_path,
        [
            {"id": "a", "conversations": [system, *turns("Tell me of ships.", "Arr, they be made of wood.")]},
            {"id": "b", "conversations": turns("Tell me of trains.", "They run on rails.", names=("user", "chatgpt"))},
            {"id": "c", "items": turns("What is the capital?", "It is Seoul.")},
            {"id": "d", "messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi, friend."}]},
            {"id": "e", "conversations": [*turns("Hello.", "Hi."), system, *turns("Go on.", "Yes.")]},
            {"id": "f", "conversations": turns("Continue.", "1 / 2\nRegenerate response", "Please.", "The end.")},
        ],
    )  # fmt: skip
    records = {item.id: item for item in found if isinstance(item, Record)}
    assert list(records) == [f"sharegpt-{name}" for name in "abcdf"]
    assert records["sharegpt-a"].system == "You are a pirate." and records["sharegpt-b"].system == ""
    assert records["sharegpt-d"].output == "Hi, friend."
    assert (records["sharegpt-f"].instruction, records["sharegpt-f"].history) == ("Continue.\n\nPlease.", ())
    assert [item.reason for item in found if isinstance(item, Rejected)] == ["system_turn_inside"]


def test_the_system_turn_goes_with_each_pair(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "conversations": [{"from": "system", "value": "Be brief."}, *turns("One?", "1.", "Two?", "2.")]}
    ]
    assert [item.system for item in read(tmp_path, rows, turns="pairs") if isinstance(item, Record)] == [
        "Be brief."
    ] * 2


def test_html_that_was_asked_for_stays(tmp_path: Path) -> None:
    page = "<p>Hello <b>there</b></p>"
    found = read(
        tmp_path,
        [
            {"id": "a", "conversations": turns("Write an HTML page that says hello.", page, "Make it shorter.", page)},
            {"id": "b", "conversations": turns("Say hello to me.", page)},
            {"id": "c", "conversations": turns("Write HTML.", f'<div class="markdown prose">{page}</div>')},
        ],
    )
    answers = [item.output for item in found if isinstance(item, Record)]
    assert answers == [page, "Hello **there**", "Hello **there**"]
