"""Texts that make a careless reader slow, each as a function from a length in characters to a text of that length."""

from __future__ import annotations

import random
from collections.abc import Callable

Shape = Callable[[int], str]


def _of(unit: str, head: str = "", tail: str = "") -> Shape:
    """`unit` again and again, after `head` and before `tail`."""

    def text(length: int) -> str:
        size = length - len(head) - len(tail)
        return head + (unit * (size // len(unit) + 1))[:size] + tail

    return text


def _drawn(letters: str) -> Shape:
    return lambda length: "".join(random.Random(1).choices(letters, k=length))


def _halves(first: str, second: str) -> Shape:
    return lambda length: _of(first)(length // 2) + _of(second)(length - length // 2)


def _different(word: Callable[[int], str], size: int) -> Shape:
    return lambda length: " ".join(word(number) for number in range(length // size))[:length]


SHAPES: dict[str, Shape] = {
    "long word": _of("a"),
    "DNA": _drawn("ACGT"),
    "base64": _drawn("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"),
    "hex": _drawn("0123456789abcdef"),
    "Hangul without spaces": _of("가나다라"),
    "percent sign and zeros": _of("0", "Format a %"),
    "percent signs and zeros": _of(" %0000"),
    "digits": _of("1"),
    "full-width digits": _of("０"),
    "different numbers": _different(lambda number: str(1000 + number), 5),
    "dotted digits": _of("1."),
    "exponents": _of("1e11e1"),
    "snake case": _of("a_"),
    "camel case": _of("aB"),
    "apostrophes": _of("a'"),
    "backslashes": _of("\\"),
    "LaTeX commands": _of("\\aaa"),
    "LaTeX formulas": _of("\\["),
    "LaTeX environments": _of("\\begin{align}"),
    "dollars": _of("$$a"),
    "different formulas": _different(lambda number: f"$a{number}$", 8),
    "spaces": _of(" ", "a", "x|"),
    "spaces after a brace": _of(" ", "a;", "x"),
    "tabs": _of("\t"),
    "line breaks": _of("\r\n "),
    "no-break spaces": _of("\u00a0"),
    "table rules": _of("| -- | :-:"),
    "quotation marks": _of('"' + "a" * 299),
    "brackets": _of("("),
    "nested JSON": _of('[{"a":'),
    "braces": _of("{"),
    "open tags": _of("<a "),
    "open quotes in tags": _of('<a "'),
    "two quotes in tags": _of("<a \"'"),
    "attributes": _of("a=", "<a ", ">"),
    "scripts": _of("<script>"),
    "open scripts": _of("<script"),
    "comments": _of("<!--"),
    "ampersands": _of("&"),
    "a long character number": _of("1", "&#"),
    "nested lists": _of("<ul><li>a"),
    "nested lists, closed otherwise": _halves("<ul>", "</blockquote>"),
    "nested quotations": _of("<blockquote><p>a"),
    "tags closed otherwise": _halves("<b>", "</i>"),
    "backticks": _of("`"),
    "double backticks": _of("``a"),
    "different inline code": _different(lambda number: f"`a{number}`", 8),
    "fences": _of("~~~\n"),
    "at signs": _of("a@"),
    "dotted addresses": _of("a.a-a@a."),
    "a long address": _of(".a", "a@a"),
    "phone numbers": _of("010-"),
    "key marks": _of("sk-"),
    "a long key": _of("a", "ghp_"),
    "a long URL": _of("a.", "http://"),
    "URLs that end in marks": _of("http://" + ",)" * 900),
    "paths": _of("/a"),
    "English": _of("the quick brown fox jumps over it. "),
    "different English words": _different(lambda number: "".join(random.Random(number).choices("abcdefgh", k=5)), 6),
    "calls": _of("f(a(b),c(d))[0] = g(x) + 1\n"),
    "long lines of code": _of("def " + "f(" * 490 + "\n"),
    "combining marks": _of("\u0316\u0301", "a"),
    "a label and spaces": _of(" ", "전반적인 품질: 4", "x"),
    "a label and spaces below": _of(" ", "전반적인 품질:\n점수", "x"),
    "labels": _of("전반적인 품질:\n점수 "),
    "zero-width spaces": _of("\u200b"),
    "emoji": _of("👨\u200d👩\u200d👧"),
    "jamo": _of("ㅏ"),
}
