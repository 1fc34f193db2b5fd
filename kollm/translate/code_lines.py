"""Code that stands in a text without a fence, found line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BEGINS = re.compile(
    r"[ \t]*(?:(?:async[ ])?def[ ]|class[ ]|import[ ]|from[ ]|\#[ \t]*include|using[ ]|package[ ]|public[ ]|private[ ]"
    r"|protected[ ]|static[ ]|function[ ]|SELECT[ ]|INSERT[ ]|UPDATE[ ]|DELETE[ ]|CREATE[ ]|ALTER[ ]|DROP[ ]|print"
    r"|(?:var|let|const|int|float|double|char|bool|void|String)[ ]\w)|[\w.]+[ ]=[ ]"
)
_ENDS = (";", "{", "}", ")")
"""How one line at least of a text with code begins or ends; without it the lines are not looked at one by one."""

_CODE = re.compile(
    r"""[ \t]*(?:
      (?:async\s+)?def\s+\w+\s*\([^)]*+\)[^:]*+: | class\s+\w+\s*(?:\(.*\))?\s*[:{] | @\w+(?:\(.*\))?$
    | import\s+[\w.]+(?:\s+as\s+\w+)?;?\s*$ | import\s.*\sfrom\s+['"] | from\s+[\w.]+\s+import\s+\S
    | \#\s*(?:include|define|ifdef|ifndef|endif|pragma)\b | using\s+(?:namespace\s+)?[\w.]+; | package\s+[\w.]+;
    | (?:public|private|protected|static|final|abstract)\s.*[({;]\s*$
    | (?:var|let|const|int|float|double|char|bool|boolean|string|String|auto|long|void)\s+[\w<>\[\]]+\s*(?:=|\(|;).*
    | (?:for|if|while|switch|foreach|else\s*if|catch)\s*\(.*\)\s*+(?:[{:]\s*+)?$
    | (?:for|while|if|elif|with)\s.*[\w\])"']:\s*$ | (?:else|try|finally|do)\s*[:{]\s*$
    | function\s+\w*\s*\(.*\)\s*\{? | return\b.*[;()\[\]]\s*$ | print(?:f|ln)?\s*\(.*\)
    | (?:SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s.*(?:[;,(*]|\bFROM\b|\bSET\b).*
    | (?:CREATE|ALTER|DROP)\s+(?:TABLE|VIEW|DATABASE|INDEX)\s.*
    | (?:FROM|WHERE|GROUP\s+BY|ORDER\s+BY|HAVING|VALUES|(?:INNER\s+|LEFT\s+|RIGHT\s+)?JOIN)\s.*[\w);*'"]\s*$
    | [\w.\[\]"']+\s*(?:[-+*/|&]?=)\s*(?=["'\[({\d-]|.*[(\[+*/;])[^=\s].*[\w)\]}"';]\s*$
    | [\w.]+\([^()]*(?:\([^()]*\)[^()]*)*+\)\s*+(?:;\s*+)?$
    | [^(=\[<>+]*+[(=\[<>+].*[;{]\s*$ | [\])}]+[;,]?\s*$ | //.* | /\*.* | \*/.*
    )""",
    re.VERBOSE,
)
_ALONE_BEGINS = re.compile(
    r"(?:def|class|import|from|\#|using|package|public|private|function|print|SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\b"
)
_ALONE_ENDS = (";", "{", "}")
"""How one line alone must begin or end to count: `x = 5` is also what an exercise says."""

_PROSE = re.compile(r"(?<![A-Za-z',])(?:[A-Za-z',]++ ){6}")
_MAY_HOLD_PROSE = ("//", "#", "/*", "*", "SELECT", "INSERT", "print")
_WORD = re.compile(r"\w")
_LONGEST_LINE = 1000


def code_lines(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each run of code lines, with the blank lines between and the indented lines under them."""
    lines = text.splitlines(keepends=True)
    if len(lines) == 1 and not _may_stand_alone(text.strip()):
        return  # as most texts of one line
    if not any(map(_looks_like_code, text.split("\n"))):
        return
    position, count, start, end, first = 0, 0, 0, 0, ""
    opened = False
    for line in lines:
        bare = line.rstrip()
        body = bool(count) and bare[:1] in (" ", "\t") and (opened or count > 1)
        # A closing bracket belongs to code above it; alone it may end anything, JSON for instance.
        if bare and (body or (_is_code(bare) and (count or _WORD.search(bare)))):
            if not count:
                start, first = position, bare.strip()
            end, count = position + len(bare), count + 1
            opened = (opened and body) or bare.endswith((":", "{", "(", "["))
        elif bare:
            if _counts(count, first):
                yield start, end
            count, opened = 0, False
        position += len(line)
    if _counts(count, first):
        yield start, end


def _looks_like_code(line: str) -> bool:
    """A cheap look that most lines of prose fail."""
    return bool(_BEGINS.match(line)) or line.rstrip(" \t").removesuffix(":").rstrip(" \t").endswith(_ENDS)


def _is_code(line: str) -> bool:
    if len(line) > _LONGEST_LINE or not _CODE.match(line):
        return False
    return not _PROSE.search(line) or line.lstrip().startswith(_MAY_HOLD_PROSE)


def _counts(lines: int, first: str) -> bool:
    return lines > 1 or (lines == 1 and _may_stand_alone(first))


def _may_stand_alone(line: str) -> bool:
    return line.endswith(_ALONE_ENDS) or _ALONE_BEGINS.match(line) is not None
