"""Jinja of others, rendered in a process of its own: bounded in time, memory and output.

A template is a program. The sandbox keeps it from the machine's files, not from looping for ever or from making gigabytes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
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
_CHILD = Path(__file__).with_name("render_child.py")


_RENDERERS: weakref.WeakSet[Renderer] = weakref.WeakSet()
"""Those that are in use: the cache below drops the oldest, and its process must not stay behind."""


class Rendered(NamedTuple):
    """A template's text, and where its `generation` blocks stand in it."""

    text: str
    generated: list[tuple[int, int]]


class Renderer:
    """One template in a process that ends with this object. It is started when it is first needed, and again after a bomb.

    Args:
        template: the Jinja text.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._starter = 0
        _RENDERERS.add(self)

    def __del__(self) -> None:
        self.close()

    def render(self, values: Mapping[str, Any], marks: bool = False) -> Rendered:
        """Render the template.

        Args:
            values: its variables: what JSON holds.
            marks: whether to note where its `generation` blocks stand.

        Raises:
            InputError: the template is not valid, refuses the values, or takes too much time or memory.
        """
        with self._lock:
            child = self._child or self._start()
            try:
                answer = self._ask(child, {"values": dict(values), "marks": marks})
            except BaseException:
                self.close()
                raise
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return Rendered(str(answer["text"]), [(int(start), int(end)) for start, end in answer["generated"]])

    def check(self) -> None:
        """Compile the template.

        Raises:
            InputError: it is not valid, or takes too much time or memory.
        """
        with self._lock:
            if self._child is None:
                self._start()

    def close(self) -> None:
        """End the process; one that forked from this one leaves it alone."""
        child, self._child = self._child, None
        if child is not None and self._starter == os.getpid():
            child.kill()
            with contextlib.suppress(OSError):
                child.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        limits = [str(MOST_SECONDS), str(MOST_MEMORY), str(MOST_CHARACTERS)]
        quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "critical", "OMP_NUM_THREADS": "1"}
        self._starter = os.getpid()
        self._child = subprocess.Popen(
            [sys.executable, str(_CHILD), *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=quiet,
            start_new_session=True,  # Ctrl-C is this process's business
        )
        try:
            answer = self._ask(self._child, {"template": self.template})
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            self.close()
            raise InputError(str(answer["error"]))
        assert self._child is not None
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], question: Mapping[str, Any]) -> dict[str, Any]:
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(json.dumps(question).encode("ascii") + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self._bomb() from None
        data, deadline = bytearray(), time.monotonic() + MOST_WAIT
        output = select.poll()  # select() itself refuses a process with more than a thousand open files
        output.register(child.stdout, select.POLLIN)
        while not data.endswith(b"\n"):
            ready = output.poll(max(deadline - time.monotonic(), 0) * 1000)
            chunk = os.read(child.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk or len(data) > 8 * MOST_CHARACTERS:
                raise self._bomb()
            data += chunk
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _bomb(self) -> InputError:
        return InputError(
            f"it takes more than {MOST_SECONDS:.0f} seconds, {MOST_MEMORY >> 20} MiB or {MOST_CHARACTERS // 10**6} million "
            "characters"
        )


@atexit.register
def _close_all() -> None:
    for renderer in list(_RENDERERS):
        renderer.close()


@functools.lru_cache(maxsize=4)
def _renderer(template: str, _process: int) -> Renderer:
    return Renderer(template)


def check_foreign(template: str) -> None:
    """Compile somebody's template; as `Renderer.check`."""
    _renderer(template, os.getpid()).check()


def render_foreign(template: str, values: Mapping[str, Any], marks: bool = False) -> Rendered:
    """Render somebody's template; as `Renderer.render`, with one process kept for each template."""
    return _renderer(template, os.getpid()).render(values, marks)


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
