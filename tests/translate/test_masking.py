"""Masking: the identity on every text, exactly the structure and nothing else, strict reading of what comes back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.translate.masking import (
    Document,
    lost_numbers,
    make_document,
    mask,
    translatable,
    unmask,
    visible_length,
)
from kollm.translate.structure import STRUCTURES, plain, structure_spans

LOOKING_BACK_FIRST = {
    "inline code": r"(?<!`)``(?!`)[^\n]{1,500}?(?<!`)``(?!`)|(?<!`)`[^`\n]{1,500}`(?!`)",
    "inline formula": r"(?<![\\$\w])\$(?=\S)[^$\n]{1,300}(?<=[^\s\\(])\$(?![\w$])",
    "colour": r"(?<![\w&])\#[0-9A-Fa-f]{6}(?![A-Za-z0-9_])",
    "path": r"""\b[A-Za-z]:\\[^\s"'<>|]{1,250}|(?<![\w/.:<])(?:~|\.{1,2})?/(?:[\w.-]{1,80}/){1,20}[\w.-]{0,80}\w/?""",
}
"""Some structures as one would write them; what kollm seeks is written so that `re` skips ahead to a sign."""


@given(
    st.lists(st.sampled_from([*"`$#\\/~.:&a_ 가\n(", "``", "f0f0f0", "C:\\", "usr", "x y"]), max_size=30).map("".join)
)
def test_a_pattern_that_begins_with_its_sign_finds_the_same(text: str) -> None:
    for structure in STRUCTURES:
        if (plainly := LOOKING_BACK_FIRST.get(structure.name)) is not None:
            assert list(structure.find(text)) == [match.span() for match in re.finditer(plainly, text)]


PIECES = [
    *(
        '<x id="0"/>',
        "<d>",
        "</t>",
        "&amp;",
        "&",
        "<",
        ">",
        "]]>",
        "<![CDATA[",
        "<!--",
        "-->",
        "'",
        '"',
        "\\",
        "`",
        "```",
    ),
    *(
        "$",
        "$$",
        "{",
        "}",
        "{{",
        "%s",
        "%",
        "|",
        "\n",
        "\r",
        "\t",
        " ",
        "\x00",
        "\x0b",
        "\ud800",
        "\udc00",
        "\ufffe",
        "\uffff",
    ),
    *(
        "\\begin{align}",
        "\\end{align}",
        "\\(",
        "\\)",
        "\\[",
        "https://a.b/c?d=e&f",
        "a@b.co",
        '{"a": "b"}',
        "[[1]]",
        "def f():",
    ),
    *(
        "\ue000",
        "\x85",
        "\u2028",
        "가",
        "word",
        "3,000",
        "12:30",
        "C:\\x\\y",
        "/usr/bin/env",
        "|---|",
        "~~~",
        "<a b='c'>",
        "; {",
    ),
]
ANY_TEXT = st.one_of(
    st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=15).map("".join),
)


@given(ANY_TEXT, st.booleans(), st.integers(0, 99))
@settings(max_examples=600)
def test_unmask_is_the_inverse_of_mask(text: str, numbers: bool, first: int) -> None:
    masked = mask(text, first, numbers)
    assert unmask(masked, masked.markup) == text


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), ANY_TEXT.filter(str.strip), min_size=1, max_size=4), st.booleans()
)
@settings(max_examples=300)
def test_a_document_that_comes_back_unchanged_gives_its_fields(fields: dict[str, str], numbers: bool) -> None:
    document = make_document(fields, numbers)
    if document is None:
        assert not any(translatable(text) for text in fields.values())
        return
    assert document.read(document.text) == {name: fields[name] for name in document.fields}
    document.text.encode("utf-8")


@given(ANY_TEXT)
@settings(max_examples=200)
def test_spans_are_sorted_apart_and_inside(text: str) -> None:
    spans = structure_spans(text)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges) and all(start < end for start, end in spans)
    assert not edges or (edges[0] >= 0 and edges[-1] <= len(text))


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in structure_spans(text)]


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("Call `f(x)` on it.", ["`f(x)`"]),
        ("Run\n```python\nprint(1)\n```\nnow.", ["```python\nprint(1)\n```"]),
        ("An open fence\n```\nx = 1", ["```\nx = 1"]),
        ("Explain:\ndef f(x):\n    y = x + 1\n\n    return y\nWhy?", ["def f(x):\n    y = x + 1\n\n    return y"]),
        ("SELECT name FROM users WHERE id = 1;", ["SELECT name FROM users WHERE id = 1;"]),
        ("for (int i = 0; i < 3; i++) {\n  go(i);\n}", ["for (int i = 0; i < 3; i++) {\n  go(i);\n}"]),
        ("Solve $x^2 = 4$ for $5 or $10.", ["$x^2 = 4$"]),
        (r"\section{Introduction} is \textbf{bold}.", [r"\section{", "}", r"\textbf{", "}"]),
        (r"\documentclass[a4paper]{article} \begin{document}", [r"\documentclass[a4paper]{article} \begin{document}"]),
        (r"See \begin{align}a &= b\\\end{align} here", [r"\begin{align}a &= b\\\end{align}"]),
        ("See https://example.org/a_(b)?c=d.", ["https://example.org/a_(b)?c=d"]),
        ("Mail kim@example.co.kr, please.", ["kim@example.co.kr"]),
        ('Given {"name": "Kim", "tags": ["a"]} find it.', ['{"name": "Kim", "tags": ["a"]}']),
        ('Use\n{"a": [\n  {"b": 1},\n  {"b": 2}\n]}\nnow.', ['{"a": [\n  {"b": 1},\n  {"b": 2}\n]}']),
        ('Sort ["pear", "apple"].', []),
        ('<p class="x > y">Hello <b>there</b></p>', ['<p class="x > y">', "<b>", "</b></p>"]),
        ("<script>if (a < b) run()</script>done", ["<script>if (a < b) run()</script>"]),
        ("if a < b and c > d", []),
        ("a &nbsp; b & c", ["&nbsp;"]),
        ("Dear {name}, you have {{count}} of ${total} left", ["{name}", "{{count}}", "${total}"]),
        ("Print %d and %-5.2f, 100% sure, 50% off", ["%d", "%-5.2f"]),
        ("Name | Age\n--- | ---\nKim | 3", [" | ", "--- | ---", " | "]),
        ("| a | b |\n|---|:-:|\n| c | d |", ["| ", " | ", " |\n|---|:-:|\n| ", " | ", " |"]),
        ("Go to google.com, or docs.example.co.kr/a/b.", ["google.com", "docs.example.co.kr/a/b"]),
        ("It made a loss.Net sales fell.", []),
        ("Paint it #FDB3AE, says #MondayMood.", ["#FDB3AE"]),
        ("Why does original_list change when reverse() runs?", ["original_list", "reverse()"]),
        ("Fill in the ____ and the _blank_ one.", []),
        ("Show that 7x^2 + 2x = y^-3 and (a)^(n+1).", ["7x^2", "y^-3", ")^(n+1)"]),
        (
            "Compare Next.js, Node.js's and index.min.js with ASP.NET.",
            ["Next.js", "Node.js", "index.min.js", "ASP.NET"],
        ),
        ("At the end.Start anew. See end.js.old or the.NET result.", []),
        ("From 1e6 to 2.5E-10, +3e+8 times.", ["1e6", "2.5E-10", "3e+8"]),
        ("Chess: 1.e4 e5. Flat 12e, 3 eggs, 0x1e6, 7e5a, 4e2.5 and v1.2e3.4", []),
        ("a\x00b\ud800c\td\r\n", ["\x00", "\ud800", "\t", "\r"]),
        ("The woods are lovely;\nand deep; so deep;", []),
        ("From my house\nimport duties rise (again).", []),
        ("City = London\nMonth = March", []),
    ],
)
def test_what_is_structure(text: str, structure: list[str]) -> None:
    assert found(text) == structure


def test_neighbours_become_one_placeholder() -> None:
    masked = mask("See `a` `b`, `c`.")
    assert masked.markup == 'See <x id="0"/>, <x id="1"/>.'
    assert masked.lines[0].originals == ("`a` `b`", "`c`")


def test_numbers_stay_unless_asked() -> None:
    assert mask("In 2024, 3,000 won.").lines[0].originals == ()
    assert mask("In 2024, 3,000 won.", numbers=True).lines[0].originals == ("2024", "3,000")
    assert mask("About 1e6 of 2.", numbers=True).lines[0].originals == ("1e6", "2")


def test_every_kind_has_a_name_and_is_tried() -> None:
    names = [structure.name for structure in STRUCTURES]
    assert len(set(names)) == len(names)


def two_fields() -> Document:
    document = make_document(
        {"instruction": " Run `a` & `b c`, then stop. \n", "input": " 42 ", "output": "See https://a.kr/x now"}
    )
    assert document is not None
    return document


def test_a_document_as_it_is_sent() -> None:
    document = two_fields()
    assert document.text == (
        '<d><t n="0">Run <x id="0"/> &amp; <x id="1"/>, then stop.</t><t n="1">See <x id="2"/> now</t></d>'
    )
    assert visible_length(document.text) == len("Run  &amp; , then stop.See  now")


def test_a_translated_document() -> None:
    answer = '<d><t n="0"><x id="1"></x>, <x id="0" />을 &lt;실행&gt;.</t><t n="1"><x id="2"/> 보기</t></d>'
    assert two_fields().read(answer) == {
        "instruction": " `b c`, `a`을 <실행>. \n",
        "output": "https://a.kr/x 보기",
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('<d><t n="0">가 <x id="0"/></t><t n="1">나 <x id="2"/></t></d>', "placeholder: lost '`b c`' in instruction"),
        (
            '<d><t n="0">가 <x id="0"/><x id="1"/><x id="1"/></t><t n="1">나 <x id="2"/></t></d>',
            "placeholder: doubled '`b c`' in instruction",
        ),
        (
            '<d><t n="0">가 <x id="0"/><x id="1"/><x id="2"/></t><t n="1">나</t></d>',
            "placeholder: a foreign <x> came back in instruction",
        ),
        ('<d><t n="0">가 <b>나</b></t><t n="1">나</t></d>', "placeholder: a foreign <b>"),
        ('<d><t n="0">가 <x id="0"/><x id="1"/></t></d>', "markup: 2 fields were sent, 1 or others came back"),
        ('<d><t n="1">가</t><t n="0">나</t></d>', "markup: 2 fields were sent"),
        ('<d>가<t n="0">가</t><t n="1">나</t></d>', "markup: text outside of the fields"),
        ('<d><t n="0">가', "markup: not well-formed"),
        ('<!DOCTYPE d [<!ENTITY a "b">]><d>&a;</d>', "markup: a declaration came back"),
        ("가\ud800", "markup: not well-formed"),
        ('<d><t n="0"><x id="0"/><x id="1"/></t><t n="1"> </t></d>', "placeholder: lost 'https://a.kr/x' in output"),
    ],
)
def test_a_broken_answer_says_what_broke(answer: str, reason: str) -> None:
    with pytest.raises(ValueError) as error:
        two_fields().read(answer)
    assert str(error.value).startswith(reason)


def test_an_emptied_field_is_broken() -> None:
    document = make_document({"output": "Hello there"})
    assert document is not None
    with pytest.raises(ValueError, match="empty: nothing came back in output"):
        document.read('<d><t n="0"> </t></d>')


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Hello", True), ("`code` only", True), ("`code`", False), ("42 + 1 = 43", False), ("", False), ("가", True)],
)
def test_translatable(text: str, expected: bool) -> None:
    assert translatable(text) is expected


@pytest.mark.parametrize(
    ("source", "target", "lost"),
    [
        ("about 700-1000 calories", "약 700~1000칼로리", []),
        ("about 700-1000 calories", "약 700칼로리", ["1000"]),
        ("1,000 won", "1000원", []),
        ("3 million won", "300만 원", []),
        ("the 3rd of 5", "5개 중 세 번째", []),
        ("on 5/12/2020 at 13:00", "2020년 5월 12일 13:00에", []),
        ("1, 1 and 2", "1과 2", ["1"]),
        ("pi is 3.14.", "파이는 3.15입니다.", ["3.14"]),
        ("see `x9` at https://a.b/77", "`x9`, https://a.b/77 보기", []),
    ],
)
def test_lost_numbers(source: str, target: str, lost: list[str]) -> None:
    assert lost_numbers(plain(source), plain(target)) == lost


def test_plain_text_is_left_as_it_is() -> None:
    assert plain("Nothing special here.") == "Nothing special here."
    assert plain("Run `x` now") == "Run   now"


def test_hostile_texts_take_linear_time() -> None:
    for piece in (
        "`",
        "$x",
        "{",
        '{"a":',
        "[",
        "<a ",
        '<a "',
        "\\begin{align}",
        "|",
        "%",
        "\\",
        "a@",
        "http://",
        "```\n",
        "<!--",
        "a_",
        "a.",
        "a^",
        "a.com/",
        "a.js",
        "1",
        "1e",
    ):
        text = piece * (40_000 // len(piece))
        masked = mask(text)
        assert unmask(masked, masked.markup) == text
