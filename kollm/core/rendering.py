"""Jinja of others, rendered in a process of its own: bounded in time, memory and output.

A template is a program. The sandbox keeps it from the machine's files, not from looping for ever or from making gigabytes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kollm.core.errors import InputError

MOST_SECONDS = 5.0
"""Of processor time that one rendering takes; an ordinary one takes a thousandth of a second."""
MOST_WAIT = 60.0
"""Seconds on a busy machine."""
MOST_MEMORY = 512 << 20
MOST_CHARACTERS = 16_000_000
MOST_TEMPLATES = 64
"""That the process keeps; then it is started anew."""
_CHILD = Path(__file__).with_name("render_child.py")


class Rendered(NamedTuple):
    """A template's text, and where its `generation` blocks stand in it."""

    text: str
    generated: list[tuple[int, int]]


class _Renderer:
    """The process that renders for this one. It is started when it is first needed, and again after a bomb."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, template: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Have a template compiled, if that process has not seen it yet, and rendered, if the question holds values.

        Raises:
            InputError: the template is not valid, refuses the values, or takes too much time or memory.
        """
        with self._lock:
            try:
                if template not in self._numbers:
                    if len(self._numbers) == MOST_TEMPLATES:
                        self._end()
                    number = len(self._numbers)
                    self._answer({"number": number, "template": template})
                    self._numbers[template] = number
                return self._answer({"number": self._numbers[template], **question}) if question else {}
            except InputError:
                raise
            except BaseException:  # Ctrl-C between a question and its answer: the next one would get that answer
                self._end()
                raise

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps({"seconds": MOST_SECONDS, **question}).encode("ascii") + b"\n"
        process = self.process or self._start()
        try:
            answer: dict[str, Any] = json.loads(_exchange(process, data))
        except (OSError, EOFError):
            self._end()
            raise InputError(
                f"it takes more than {MOST_SECONDS:.0f} seconds, {MOST_MEMORY >> 20} MiB or "
                f"{MOST_CHARACTERS // 10**6} million characters"
            ) from None
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            [sys.executable, str(_CHILD), str(MOST_MEMORY), str(MOST_CHARACTERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TRANSFORMERS_VERBOSITY": "critical", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is this process's business
        )
        return self.process

    def _end(self) -> None:
        self._numbers.clear()
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


def _exchange(process: subprocess.Popen[bytes], question: bytes) -> bytes:
    """Send a line and get one.

    Raises:
        OSError, EOFError: the process ended, said too much, or said nothing in time.
    """
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(question)
    process.stdin.flush()
    data, deadline = bytearray(), time.monotonic() + MOST_WAIT
    output = select.poll()  # select() itself refuses a process with more than a thousand open files
    output.register(process.stdout, select.POLLIN)
    while not data.endswith(b"\n"):
        ready = output.poll(max(deadline - time.monotonic(), 0) * 1000)
        chunk = os.read(process.stdout.fileno(), 1 << 20) if ready else b""
        if not chunk or len(data) > 8 * MOST_CHARACTERS:
            raise EOFError
        data += chunk
    return bytes(data)


_renderer = _Renderer()


def _forget() -> None:
    """A forked process leaves the one that renders to its owner."""
    global _renderer
    _renderer = _Renderer()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _renderer.close())


def check_foreign(template: str) -> None:
    """Compile somebody's template.

    Raises:
        InputError: it is not valid, or takes too much time or memory.
    """
    _renderer.ask(template, {})


def render_foreign(template: str, values: Mapping[str, Any], marks: bool = False) -> Rendered:
    """Render somebody's template, in a process that all templates share.

    Args:
        template: the Jinja text.
        values: its variables: what JSON holds.
        marks: whether to note where its `generation` blocks stand.

    Raises:
        InputError: the template is not valid, refuses the values, or takes too much time or memory.
    """
    answer = _renderer.ask(template, {"values": dict(values), "marks": marks})
    return Rendered(str(answer["text"]), [(int(start), int(end)) for start, end in answer["generated"]])


class _Generation(Extension):
    """Knows the blocks around what a model writes; they are rendered as what they hold."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ForeignTemplate:
    """Somebody's chat template in the shape of the compiled one that transformers renders.

    Raises:
        TemplateError: from `render` and `generate`, whatever is wrong with it.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        self._marks: list[tuple[int, int]] | None = None

    @property
    def environment(self) -> ForeignTemplate:
        """Has `activate_tracker`, as transformers' environment."""
        return self

    def parse(self, template: str) -> Any:
        """The template's syntax tree: nothing of it is computed."""
        try:
            return ImmutableSandboxedEnvironment(extensions=[_Generation, loopcontrols]).parse(template)
        except RecursionError as error:
            raise TemplateError("it is nested too deep") from error

    @contextlib.contextmanager
    def activate_tracker(self, _blocks: list[str], places: list[tuple[int, int]]) -> Iterator[None]:
        """Note the places of the template's `generation` blocks."""
        self._marks = places
        try:
            yield
        finally:
            self._marks = None

    def render(self, **values: Any) -> str:
        """The text."""
        return "".join(self.generate(**values))

    def generate(self, **values: Any) -> Iterator[str]:
        """The text, in one piece."""
        try:
            rendered = render_foreign(self._template, values, marks=self._marks is not None)
        except InputError as error:
            raise TemplateError(str(error)) from error
        if self._marks is not None:
            self._marks += rendered.generated
        yield rendered.text
