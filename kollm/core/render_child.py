"""The process in which `rendering.py` renders templates of others.

    python render_child.py BYTES CHARACTERS

It reads JSON lines, and each gets a line: `{"number": N, "seconds": S}` with `"template"`, which it compiles and keeps under that
number, or with `"values"` and `"marks"`, which it renders. Whoever started it takes its end for an answer too: the template took
too much.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment


def main() -> None:
    """Answer until the input ends."""
    memory, characters = int(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints
    compiler = _compiler()
    try:
        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:  # no Linux
        now = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)  # ends this process, whatever it is in the middle of
    templates: dict[int, Any] = {}
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        signal.setitimer(signal.ITIMER_VIRTUAL, question["seconds"])
        try:
            if "template" in question:
                templates[question["number"]] = compiler(question["template"])
            else:
                answer = _render(templates[question["number"]], question["values"], question["marks"], characters)
        except TemplateSyntaxError as error:
            answer = {"error": f"line {error.lineno}: {error.message}"}
        except MemoryError:
            return
        except RecursionError:
            answer = {"error": "it calls itself without end"}
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            answer = {"error": reason if isinstance(error, TemplateError) else f"{type(error).__name__}: {reason}"}
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        _write(answers, json.dumps(answer).encode("ascii") + b"\n")


def _write(file: Any, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]


def _render(template: Any, values: dict[str, Any], marks: bool, characters: int) -> dict[str, Any]:
    blocks: list[str] = []
    places: list[tuple[int, int]] = []
    tracker = getattr(template.environment, "activate_tracker", None)
    with tracker(blocks, places) if marks and tracker is not None else _nothing():
        length = 0
        for block in template.generate(**values):
            blocks.append(block)
            length += len(block)
            if length > characters:
                return {"error": f"it writes more than {characters // 10**6} million characters"}
    return {"text": "".join(blocks), "generated": places}


@contextmanager
def _nothing() -> Any:
    yield None


def _compiler() -> Any:
    """transformers' own compiler of chat templates, so that both write the same characters; plain Jinja without it."""
    try:
        from transformers.utils.chat_template_utils import _cached_compile_jinja_template
    except ImportError:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        return environment.from_string
    return _cached_compile_jinja_template


def _raise(message: str) -> None:
    raise TemplateError(message)


if __name__ == "__main__":
    main()
