"""What the pages of ChatGPT and ShareGPT left in the text of a conversation: names of buttons, page numbers, notices."""

from __future__ import annotations

import re

_BUTTONS = frozenset(
    (
        *(
            "copy code",
            "copy",
            "share prompt",
            "share conversation",
            "regenerate response",
            "regenerate",
            "stop generating",
        ),
        *(
            "continue generating",
            "save & submit",
            "new chat",
            "upgrade to plus",
            "clear conversations",
            "get help with this",
        ),
        *(
            "코드 복사",
            "코드복사",
            "프롬프트 공유",
            "대화 공유",
            "응답 재생성",
            "응답 다시 생성",
            "생성 중지",
            "계속 생성하기",
        ),
    )
)
"""Alone on a line; `copy` only next to code."""
_NOTICE = re.compile(
    r"(?:ChatGPT (?:may produce inaccurate information|can make mistakes)|Free Research Preview\b|Model: (?:GPT-[34]|Default)"
    r"|This content may violate our content policy|Copy\d+ chars / \d+ words).{0,200}",
    re.IGNORECASE,
)
_PAGE = re.compile(r"\d{1,3} / \d{1,3}")
_LANGUAGES = frozenset(
    [
        "arduino",
        "bash",
        "bat",
        "c",
        "c#",
        "c++",
        "clojure",
        "cmake",
        "console",
        "cpp",
        "csharp",
        "css",
        "csv",
        "dart",
        "diff",
        "dockerfile",
        "elixir",
        "erlang",
        "fortran",
        "fsharp",
        "go",
        "golang",
        "graphql",
        "groovy",
        "haskell",
        "hcl",
        "html",
        "http",
        "ini",
        "java",
        "javascript",
        "js",
        "json",
        "jsx",
        "julia",
        "kotlin",
        "latex",
        "less",
        "lisp",
        "lua",
        "makefile",
        "markdown",
        "mathematica",
        "matlab",
        "mermaid",
        "nginx",
        "objectivec",
        "ocaml",
        "pascal",
        "perl",
        "php",
        "plaintext",
        "powershell",
        "prolog",
        "properties",
        "protobuf",
        "python",
        "r",
        "ruby",
        "rust",
        "sas",
        "scala",
        "scheme",
        "scss",
        "sh",
        "shell",
        "solidity",
        "sql",
        "svelte",
        "swift",
        "terraform",
        "tex",
        "toml",
        "ts",
        "tsx",
        "typescript",
        "vb",
        "vba",
        "vbnet",
        "verilog",
        "vhdl",
        "vim",
        "vue",
        "wasm",
        "xml",
        "yaml",
        "zsh",
    ]
)
_FENCED = re.compile(r"```[ \t]*\n?([\w+#.-]{0,20})[ \t]*\n?Copy code[ \t]*(?=\n|\S)\n?")
_COPY = ("copy code", "코드 복사", "코드복사")
_PROSE = re.compile(r"""["'(*_]{0,3}[A-Z가-힣][^{};=<>]*[.:!?]["')*_]{0,3}""")
_LEFTOVER = re.compile(
    r"copy|share|regenerate|generating|submit|new chat|upgrade|clear|get help|chatgpt|preview|model:|this content|복사|공유|생성"
    r"|^[ \t]*+\d{1,3} / \d{1,3}[ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)


def without_leftovers(text: str) -> str:
    """The text without the names of a page's buttons, its page numbers and notices.

    Code under `bash` and `Copy code` gets the fence that the page had drawn; page numbers go at the ends of a text only.
    """
    if not _LEFTOVER.search(text):
        return text
    lines = _FENCED.sub(lambda match: f"```{match[1]}\n", text).split("\n")
    said = [number for number, line in enumerate(lines) if line.strip() and not _PAGE.fullmatch(line.strip())]
    lines = lines[said[0] : said[-1] + 1] if said else []
    kept: list[str] = []
    position, fenced = 0, False
    while position < len(lines):
        bare = lines[position].strip()
        fenced ^= bare.startswith("```")
        if fenced or not _is_leftover(bare):
            kept.append(lines[position])
            position += 1
            continue
        position += 1
        if bare.lower() in _COPY:
            language = kept.pop().strip() if kept and kept[-1].strip().lower() in _LANGUAGES else ""
            end = _end_of_code(lines, position)
            if end > position:
                kept += [f"```{language}", *lines[position:end], "```"]
                position = end
    cleaned = "\n".join(kept)
    return cleaned if cleaned == text else cleaned.strip()


def _is_leftover(line: str) -> bool:
    return line.lower() in _BUTTONS - {"copy"} or _NOTICE.fullmatch(line) is not None


def _end_of_code(lines: list[str], start: int) -> int:
    """Where the code ends that begins at `start`: before the first line of prose after a blank one, or another leftover."""
    end = start
    for position in range(start, len(lines)):
        bare = lines[position].strip()
        first = position == start or not lines[position - 1].strip()
        if (first and len(bare.split()) >= 3 and _PROSE.fullmatch(bare)) or _is_leftover(bare):
            break
        if bare:
            end = position + 1
    if end < len(lines) and end > start and lines[end - 1].strip().lower() in _LANGUAGES:
        end -= 1  # the name of the next block
    return end
