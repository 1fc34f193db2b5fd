"""Line structure survives translation by construction, whatever a translator does with line breaks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.services.ledger import Ledger
from kollm.translate import translate_records
from kollm.translate.lines import changed_lines, line_kinds
from kollm.translate.masking import mask, unmask
from tests.servers.deepl import DeepLServer, pseudo_korean
from tests.translate.conftest import Engine, Rows

LIST = "Here are the fruits:\n\n1. Apple is sweet\n2. Banana is soft\n\nEnjoy your breakfast"
POEM = "The sea is calm tonight\nThe tide is full\n\tUpon the straits\nGleams and is gone away"
STRUCTURED = """# A plan for 2 days

> **Note:** read `this` first
> and that

- [ ] buy milk
  * whole milk
  • oats
a) first option
(b) second option

| Name | Taste of `it` |
|:--|--:|
| Apple | very sweet |

```python
print("hello")  # say hello
```
The end.  """


def sent(text: str) -> list[str]:
    return [line.markup for line in mask(text).lines]


def test_only_words_travel() -> None:
    assert sent(LIST) == ["Here are the fruits:", "Apple is sweet", "Banana is soft", "Enjoy your breakfast"]
    assert sent(STRUCTURED) == [
        *("A plan for 2 days", '**Note:** read <x id="0"/> first', "and that", "buy milk", "whole milk", "oats"),
        *("first option", "second option", "Name", 'Taste of <x id="1"/>', "Apple", "very sweet", "The end."),
    ]
    assert sent("name\tage of child\nKim Minsu\t12") == ["name", "age of child", "Kim Minsu"]
    assert sent("A. red\nB. blue") == ["red", "blue"]
    assert sent("J. Smith wrote it.\nK. Lee read it.") == ["J. Smith wrote it.", "K. Lee read it."]
    assert sent("Run this: ```\nx = 1\n``` and stop") == ["Run this:", "and stop"]


@pytest.mark.parametrize("text", [LIST, POEM, STRUCTURED])
def test_a_translator_that_joins_lines_changes_none(
    text: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.spoil = lambda answers: [re.sub(r"\s*\n\s*", " ", answer) for answer in answers]
    record = replace(rows(1)[0], system="You are a pirate.\nAlways say so.", output=text)
    (outcome,) = translate_records([record], engine(), ledger=ledger)
    assert outcome.reason is None
    korean = outcome.record.output
    assert korean != text and re.sub(r"[^\n]", "", korean) == re.sub(r"[^\n]", "", text)
    assert changed_lines(text, korean) == ""
    assert re.findall(r"^[ \t]*(?:[-*•>#(]+|\d\.|```\w*|\|:--.*)", korean, re.M) == re.findall(
        r"^[ \t]*(?:[-*•>#(]+|\d\.|```\w*|\|:--.*)", text, re.M
    )
    assert changed_lines(record.system, outcome.record.system) == "" and "해적" not in record.system
    assert outcome.record.system != record.system, "the system message is translated with the row"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: re.sub(r"</l><l [^>]*>", " ", text), "lines: 4 were sent, 1 or others came back in output"),
        (lambda text: text.replace("</l>", "\n그리고</l>", 1), "lines: one line came back as several in output"),
        (lambda text: text.replace('<l n="1">', '<l n="2">', 1), "lines: 4 were sent, 4 or others came back in output"),
        (lambda text: re.sub(r'(<l n="1">)[^<]*', r"\1", text), "empty: nothing came back in output"),
        (lambda text: text.replace("</l>", "</l>덧붙임", 1), "lines: 4 were sent, 4 or others came back in output"),
    ],
)
def test_a_changed_line_structure_is_a_reason(
    spoil: object, reason: str, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.spoil = lambda answers: [spoil(answer) for answer in answers]  # type: ignore[operator]
    (outcome,) = translate_records([replace(rows(1)[0], output=LIST)], engine(), ledger=ledger)
    assert outcome.reason == reason


LINE = st.sampled_from(
    [
        *("", "  ", "one two", "- item", "  3) third", "## Head of it", "> quoted", "| a cell | b |", "|---|---|"),
        *(
            "```",
            "x = f(1);",
            "a <b>bold</b> word",
            "see `code` there",
            "\tindented",
            "A. one",
            "B. two",
            "42",
            "* * *",
        ),
    ]
)


@given(st.lists(LINE, max_size=12).map("\n".join))
@settings(max_examples=300)
def test_a_translation_has_the_lines_of_its_english(text: str) -> None:
    masked = mask(text)
    korean = unmask(masked, pseudo_korean(masked.markup))
    assert line_kinds(korean) == line_kinds(text)


@pytest.mark.parametrize(
    ("english", "korean", "change"),
    [
        (LIST, "과일입니다: 1. 사과 2. 바나나 맛있게 드세요", "6 lines became 1"),
        ("One\n\nTwo", "하나\n둘\n", "3 lines became 2"),
        ("- One\n- Two", "하나\n둘", "line 1: item became text"),
        ("# Head\ntext", "머리\n글", "line 1: heading became text"),
        ("One\n\nTwo\nThree", "하나\n둘\n\n셋", "line 2: blank became text"),
        ("1. One\n2. Two", "1) 하나\n2) 둘\n", ""),
        ("A. One\nB. Two", "가. 하나\n나. 둘", ""),
        ("* One", "• 하나", ""),
        ("| a | b |\n|---|---|", "| 가 | 나 |\n|---|---|", ""),
        ("One line.", "한 줄.", ""),
    ],
)
def test_what_is_a_change(english: str, korean: str, change: str) -> None:
    assert changed_lines(english, korean) == change


def swapped(text: str) -> str:
    """Two placeholders of a line change places."""
    return re.sub(r'(<x id="\d+"/>)([^<]*)(<x id="\d+"/>)', r"\3\2\1", text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Press the <b>red</b> button.", "placeholder: out of order '</b>', '<b>' in output"),
        (r"The word \textbf{bold} stands here.", r"placeholder: out of order '}', '\\textbf{' in output"),
        ("Use `one` and `two` here.", None),
        ("A <br> and <br> are alone.", None),
        ("Here is code:\n```python\nprint(1)\n```\nThat is all.", None),
    ],
)
def test_structure_stays_nested(
    text: str, reason: str | None, server: DeepLServer, engine: Engine, ledger: Ledger, rows: Rows
) -> None:
    server.state.spoil = lambda answers: [swapped(answer) for answer in answers]
    (outcome,) = translate_records([replace(rows(1)[0], instruction="Do it.", output=text)], engine(), ledger=ledger)
    assert outcome.reason == reason
    if "```" in text:
        assert "\n```python\nprint(1)\n```\n" in outcome.record.output


def x(number: int) -> str:
    return f'<x id="{number}"/>'


@pytest.mark.parametrize(
    ("order", "right"),
    [
        (f"{x(0)}빨간 {x(1)}큰{x(2)}{x(3)} 단추", True),
        (f"{x(1)}큰{x(2)} {x(0)}빨간{x(3)} 단추", False),
        (f"{x(0)}빨간{x(3)} {x(1)}큰{x(2)} 단추", False),
        (f"{x(0)}{x(1)}큰{x(3)} 빨간{x(2)} 단추", False),
        (f"{x(0)}{x(1)}{x(2)} 빨간{x(3)} 단추", False),
    ],
)
def test_pairs_are_nested_as_in_the_english(order: str, right: bool) -> None:
    masked = mask("the <b>red <i>big</i> one</b> button")
    if right:
        assert unmask(masked, order)
    else:
        with pytest.raises(ValueError, match=r"placeholder: (?:out of order|nothing left between)"):
            unmask(masked, order)


@pytest.mark.parametrize(
    ("labels", "items"),
    [
        ("a b", True),
        ("A B C", True),
        ("i ii", True),
        ("I II III", True),
        ("B A", True),
        ("b c", False),
        ("A", False),
        ("a B", False),
    ],
)
def test_a_series_of_letters_is_a_list(labels: str, items: bool) -> None:
    kinds = line_kinds("\n".join(f"{label}. something of it" for label in labels.split()))
    assert set(kinds) == {"item" if items else "text"}
