"""ChatGPT's answers as ShareGPT's pages held them, HTML, back to the markdown that the model had written.

Our own parser stays beside markdownify 1.2.3, which doubles KaTeX's formulas and loses the language of fenced code.
Hostile pages cost linear time: the parser sees whole tags alone, and containers are indented DEEPEST levels at most.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

_WRAPPED = re.compile(r'\s*<div class="(?:markdown|prose)[^"]*">.*</div>\s*\Z', re.DOTALL)
_BLOCKS = re.compile(
    r"\s*<(p|pre|ol|ul|h[1-6]|table|blockquote)>.*</(?:p|pre|ol|ul|h[1-6]|table|blockquote)>\s*\Z", re.DOTALL
)
_ASKED = re.compile(
    r"\b(?:html\d?|css|xml|svg|mark-?up|bootstrap|jsx|web ?(?:page|site)s?|landing page|e-?mail template)\b|</?[a-z]\w{0,10}[ >]"
    r"|웹 ?(?:페이지|사이트)|마크업|태그",
    re.IGNORECASE,
)
_SKIPPED = frozenset({"button", "svg", "script", "style", "head", "title"})
_SPACES = re.compile(r"[ \t\r\n\f]+")
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "del": "~~", "s": "~~"}
_TAG_OR_MARK = re.compile(r"""<(?:/?[A-Za-z](?:"[^"]*+"|'[^']*+'|[^<>"'])*+>|[!?][^<>]*+>)?+""")
"""A whole tag, a declaration, or a `<` that begins neither. A `<` ends an attempt, so that no part is read often."""
_LONG_NUMBER = re.compile(r"&#(?=[0-9]{8})")
DEEPEST = 20
"""Lists, items and quotations inside one another. What lies deeper becomes text of the last of them."""
_PARAGRAPHS = frozenset({"p", "div", "section", "article", "figure", "dl", "dd", "dt"})


def asks_for_html(question: str) -> bool:
    """Whether a question is about HTML or web pages, so that HTML may be its answer."""
    return _ASKED.search(question) is not None


def is_html(text: str, asked: bool = False) -> bool:
    """Whether an answer is a page's HTML: wrapped as ShareGPT wraps it, or blocks of text from end to end.

    An answer that shows HTML as code has it in a fence, or has text around it, and is not taken for a page.

    Args:
        text: the answer.
        asked: whether the conversation is about HTML; blocks of it are then the answer itself.
    """
    return bool(_WRAPPED.match(text) or (not asked and _BLOCKS.match(text)))


def to_markdown(html: str) -> str:
    """The markdown of a piece of HTML; unclosed and unknown tags are passed over, their text stays."""
    parser = _Markdown()
    parser.feed(_whole_tags(html))
    parser.close()
    return parser.result()


def _whole_tags(html: str) -> str:
    """The page without comments and declarations. A `<` that begins no whole tag becomes text."""
    parts, position = [], 0
    while (start := html.find("<!--", position)) >= 0 and (end := html.find("-->", start + 4)) >= 0:
        parts.append(html[position:start])
        position = end + 3
    text = "".join([*parts, html[position:]])
    return _TAG_OR_MARK.sub(_as_markup, _LONG_NUMBER.sub("&amp;#", text))


def _as_markup(match: re.Match[str]) -> str:
    mark = match[0]
    return "&lt;" if mark == "<" else "" if mark[1] in "!?" else mark


class _Markdown(HTMLParser):
    """Writes blocks as they close; a list item or a quote collects its own blocks and indents them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[list[str]] = [[]]  # finished blocks of the document, then of each open container
        self._open: list[str] = []  # the containers: list, li, blockquote
        self._open_kinds: Counter[str] = Counter()
        self._line: list[str] = []
        self._lists: list[int | None] = []  # number of the next item; None for bullets
        self._skipping = 0
        self._code: list[str] | None = None
        self._language = ""
        self._in_pre = False
        self._formula: list[str] | None = None
        self._in_annotation = False
        self._spans: list[bool] = []
        self._links: list[str] = []
        self._table: list[list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag in _SKIPPED:
            self._skipping += 1
        elif tag == "pre":
            self._end_block()
            self._in_pre, self._code, self._language = True, [], ""
        elif tag == "code":
            self._open_code(attributes.get("class", ""))
        elif tag == "br":
            self._write("\n" if self._in_pre else "  \n")
        elif tag == "hr":
            self._end_block()
            self._blocks[-1].append("---")
        elif tag in _MARKS:
            self._write(_MARKS[tag])
        elif tag == "a":
            self._links.append(attributes.get("href", ""))
            self._write("[")
        elif tag == "img":
            self._write(f"![{attributes.get('alt', '')}]({attributes.get('src', '')})")
        elif tag == "span":
            self._spans.append("katex" in attributes.get("class", "").split() and self._formula is None)
            if self._spans[-1]:
                self._formula = []
        elif tag == "annotation" and self._formula is not None:
            self._in_annotation = True
        else:
            self._open_block(tag, attributes)

    def _open_code(self, classes: str) -> None:
        if self._in_pre:
            self._code = []  # what stood before in the frame is the language's name and a button
            found = re.search(r"language-([\w+#.-]+)", classes)
            self._language = found[1] if found else ""
        else:
            self._write("`")

    def _open_block(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _PARAGRAPHS or re.fullmatch(r"h[1-6]", tag):
            self._end_block()
            if tag[0] == "h":
                self._line.append("#" * int(tag[1]) + " ")
        elif tag in ("ul", "ol"):
            self._end_block()
            start = attributes.get("start", "1")
            self._lists.append(None if tag == "ul" else int(start) if re.fullmatch("[0-9]{1,9}", start) else 1)
            self._open_container("list")
        elif tag in ("li", "blockquote"):
            self._end_block()
            self._open_container(tag)
        elif tag == "table":
            self._end_block()
            self._table = []
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th"):
            self._line = []

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skipping = max(0, self._skipping - 1)
        elif tag == "pre" and self._in_pre:
            code = "".join(self._code or []).strip("\n")
            self._in_pre, self._code = False, None
            self._blocks[-1].append(f"```{self._language}\n{code}\n```")
        elif tag == "code" and not self._in_pre:
            self._write("`")
        elif tag in _MARKS:
            self._write(_MARKS[tag])
        elif tag == "a" and self._links:
            self._write(f"]({self._links.pop()})")
        elif tag == "span" and self._spans and self._spans.pop():
            formula, self._formula = "".join(self._formula or []), None
            self._write(f"${formula}$")
        elif tag == "annotation":
            self._in_annotation = False
        elif tag in ("td", "th") and self._table:
            self._table[-1].append("".join(self._line).strip().replace("|", "\\|"))
            self._line = []
        elif tag == "table" and self._table is not None:
            self._end_table()
        elif tag in _PARAGRAPHS or re.fullmatch(r"h[1-6]", tag):
            self._end_block()
        elif tag in ("ul", "ol", "li", "blockquote"):
            self._end_block()
            self._close_down_to("list" if tag in ("ul", "ol") else tag)

    def _open_container(self, kind: str) -> None:
        self._open.append(kind)
        self._open_kinds[kind] += 1
        if len(self._open) <= DEEPEST:
            self._blocks.append([])

    def _close_down_to(self, kind: str) -> None:
        """Close the innermost container of that kind and what was left open in it; without one, nothing."""
        if not self._open_kinds[kind]:
            return
        while True:
            closed = self._open.pop()
            self._open_kinds[closed] -= 1
            if len(self._open) < DEEPEST:
                {"li": self._close_item, "list": self._close_list, "blockquote": self._close_quote}[closed]()
            elif closed == "list":
                self._lists.pop()
            if closed == kind:
                return

    def _close_item(self) -> None:
        blocks = self._blocks.pop()
        number = self._lists[-1] if self._lists else None
        marker = "- " if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1
        body = ("\n\n" if any("```" in block for block in blocks) else "\n").join(blocks)
        self._blocks[-1].append(marker + body.replace("\n", "\n" + " " * len(marker)))

    def _close_list(self) -> None:
        self._lists.pop()
        items = self._blocks.pop()
        if items:
            self._blocks[-1].append("\n".join(items))

    def _close_quote(self) -> None:
        lines = "\n\n".join(self._blocks.pop()).split("\n")
        self._blocks[-1].append("\n".join(f"> {line}".rstrip() for line in lines))

    def _end_table(self) -> None:
        rows, self._table = [row for row in self._table or [] if row], None
        if rows:
            lines = ["| " + " | ".join(row) + " |" for row in rows]
            lines.insert(1, "|" + " --- |" * len(rows[0]))
            self._blocks[-1].append("\n".join(lines))

    def handle_data(self, data: str) -> None:
        if self._formula is not None:
            self._formula.append(data if self._in_annotation else "")  # the rest draws the same formula
        elif not self._skipping:
            self._write(data if self._in_pre else _SPACES.sub(" ", data))

    def _write(self, text: str) -> None:
        if self._skipping:
            return
        if self._in_pre:
            assert self._code is not None
            self._code.append(text)
        else:
            self._line.append(text)

    def _end_block(self) -> None:
        text = "\n".join(line.strip(" ") for line in "".join(self._line).split("\n")).strip()
        self._line = []
        if text and not re.fullmatch(r"#{1,6}", text):
            self._blocks[-1].append(text)

    def result(self) -> str:
        """Everything that was fed, with what is still open closed."""
        if self._in_pre:
            self.handle_endtag("pre")
        self._end_block()
        while self._open:
            self._close_down_to(self._open[-1])
        return "\n\n".join(self._blocks[0]).strip()
