"""Words in a field that only say that nothing stands there: `noinput`, `<nooutput>`, `N/A`."""

from __future__ import annotations

import re

_LONGEST = 60
_WRAPPING = " \t\n<>[](){}`'\"*_.!"
_NOTE = r"(?: (?:is |was )?(?:provided|given|needed|required|necessary|available))?"
_NO_INPUT = re.compile(
    rf"no[ _-]?(?:additional[ _-]?)?(?:input|context)s?{_NOTE}|n/a|not applicable|none|nan|null|nil|empty(?: input)?"
    r"|(?:입력|내용) ?(?:값 ?)?없음|없음|해당 ?(?:사항 ?)?없음",
    re.IGNORECASE,
)
_DASHES = re.compile(r"[-–—]{1,3}")
_NO_OUTPUT = re.compile(rf"no[ _-]?outputs?{_NOTE}|nan|(?:출력|응답|답변) ?없음", re.IGNORECASE)
_MARKED = re.compile(
    r"[<\[({]+ ?(?:no[ _-]?(?:response|answer)|empty|blank|none|null|nil|n/a) ?[>\])}]+", re.IGNORECASE
)
_NEXT_TASK = re.compile(
    r"^#{2,}\s{0,4}\d{1,3}\.[ \t]*Instruction[ \t]*:"
    r"|^(?P<number>\d{1,3})\.[ \t]*Instruction[ \t]*:[\s\S]{0,2000}?^(?P=number)\.[ \t]*(?:Input|Output)[ \t]*:",
    re.MULTILINE,
)


def is_no_input(text: str) -> bool:
    """Whether an input says only that there is none: `<noinput>`, `No input.`, `N/A`, `None`, `nan`, `-`, `(empty)`."""
    core = text.strip(_WRAPPING)
    if not core or len(core) > _LONGEST:
        return False
    return _NO_INPUT.fullmatch(core) is not None or _DASHES.fullmatch(core) is not None


def is_no_output(text: str) -> bool:
    """Whether an answer says only that there is none; `None` and `N/A` alone may be answers, in brackets they are none."""
    core = text.strip(_WRAPPING)
    if len(core) > _LONGEST:
        return False
    return _NO_OUTPUT.fullmatch(core) is not None or _MARKED.fullmatch(text.strip(" \t\n`'\"*_.")) is not None


def runs_on(text: str) -> bool:
    """Whether an answer goes on with the next task of the list that its model was writing: `12. Instruction: ...`."""
    return "Instruction" in text and _NEXT_TASK.search(text) is not None
