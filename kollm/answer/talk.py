"""Talking with a system turn by turn: what was said, and speakers that answer it piece by piece.

A speaker is a model on this machine, with the prompt that it was trained with, or a served one. What it says comes as
it is decoded; whoever stops reading stops it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kollm.core.errors import InputError
from kollm.core.files import read_text
from kollm.core.records import Record
from kollm.core.text import normalise
from kollm.recipe.prompt import cut_at_heading
from kollm.recipe.tokens import NOT_SHOWN
from kollm.services.endpoint import chat_endpoint
from kollm.sources.own.tools import tools_text
from kollm.sources.own.unreadable import UnreadableError

if TYPE_CHECKING:
    from kollm.answer.local import System

_TOOLS_FORM = "give a JSON list in OpenAI's form, as rows have it under `tools`"
WAIT = 0.2
"""Seconds between looks at whether the model ended without a word."""


class Exchange(NamedTuple):
    """What the user said and what the system answered."""

    user: str
    answer: str


@dataclass
class Talk:
    """A conversation: its system message, what was said, oldest first, and the tools that may be called, as a row has them."""

    system: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    tools: str = ""

    def record(self, message: str) -> Record:
        """The conversation with one more message that waits for its answer, normalised as what the model was trained on."""
        history = tuple((user, answer) for user, answer in self.exchanges)
        row = Record("talk", "talk", message, "", "", history, self.system, lang="ko", tools=self.tools)
        return row.map_texts(normalise)

    def take_back(self) -> str:
        """Remove the last exchange; what the user said in it.

        Raises:
            InputError: nothing was said yet.
        """
        if not self.exchanges:
            raise InputError("Nothing was said yet - there is no turn to take back.")
        return self.exchanges.pop().user

    def row(self) -> dict[str, Any]:
        """The conversation in the form `messages`, which kollm and others read as training data."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for user, answer in self.exchanges:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        from kollm.services.chat.row_messages import tool_options  # brings openai, half a second

        return {"messages": messages, **tool_options(self.tools)}


def read_tools(path: Path) -> str:
    """The definitions of a file as a row has them.

    Raises:
        InputError: there is no such file, or it holds no definitions.
    """
    try:
        tools = tools_text(read_text(path))
    except UnreadableError as error:
        raise InputError(f"'{path}' holds no definitions of tools ({error}) - {_TOOLS_FORM}.") from error
    if not tools:
        raise InputError(f"'{path}' holds no definitions of tools - {_TOOLS_FORM}.")
    return tools


class Speaker(Protocol):
    """Something that answers."""

    @property
    def name(self) -> str:
        """What it is called beside others."""

    def answer(self, record: Record) -> Iterator[str]:
        """The answer to a record's last turn, piece by piece; closing the iterator stops it."""


class LocalSpeaker:
    """A loaded system.

    Args:
        system: as `kollm.answer.local.load_system` gives it.
        sampling: options of transformers' generation; sampling from the whole distribution is not the default.
    """

    def __init__(self, system: System, sampling: Mapping[str, Any]) -> None:
        self._system = system
        self._sampling = dict(sampling)

    @property
    def name(self) -> str:
        return self._system.name

    def answer(self, record: Record) -> Iterator[str]:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

        system = self._system
        if record.tools and NOT_SHOWN in system.encoder.notes(record):
            raise InputError(f"The prompt of {self.name} has no place for tools - leave out --tools.")
        ids = system.encoder.prompt(record)
        room = getattr(system.network.config, "max_position_embeddings", None)
        if room is not None and len(ids) >= room:
            raise InputError(
                f"The conversation takes {len(ids):,} tokens and {self.name} reads {room:,} - begin a new one with /reset."
            )
        stopped = threading.Event()

        class Stop(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                return torch.full((input_ids.shape[0],), stopped.is_set(), device=input_ids.device)

        streamer = TextIteratorStreamer(system.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=WAIT)
        failure: list[BaseException] = []

        def run() -> None:
            try:
                with torch.inference_mode():
                    prompt = torch.tensor([ids], device=system.network.device)
                    system.network.generate(
                        prompt,
                        attention_mask=torch.ones_like(prompt),
                        streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([Stop()]),
                        eos_token_id=list(system.encoder.ends),
                        pad_token_id=system.tokenizer.pad_token_id,
                        **self._sampling,
                    )
            except BaseException as error:
                failure.append(error)
                streamer.end()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield from _before_heading(_pieces(streamer, thread), system.encoder.stop)
        finally:
            stopped.set()
            thread.join()
        if failure:
            raise failure[0]


class ServedSpeaker:
    """A model behind an OpenAI-compatible service. What it says is not kept in the ledger: nobody asks it twice.

    Args:
        model: the model's name.
        base_url: the service's address; None for OpenAI's or that of the environment.
        key_env: the variable that holds its key, if not the host's own.
        options: options of the request, such as `temperature` and `max_tokens`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        key_env: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._endpoint = chat_endpoint(base_url, key_env)
        self._options = dict(options or {})

    @property
    def name(self) -> str:
        return self._model

    def answer(self, record: Record) -> Iterator[str]:
        from kollm.services.chat.row_messages import asked_messages, tool_options
        from kollm.services.chat.stream import stream_answer

        options = {**self._options, **tool_options(record.tools)}
        yield from stream_answer(self._endpoint, self._model, asked_messages(record), options)


@dataclass(frozen=True, slots=True)
class SpeakerOptions:
    """Where a speaker is, and how it speaks: the options of `kollm chat`.

    Attributes:
        api: whether it is served; `base_url` and `key_env` say where, `base` and `prompt` are the server's business then.
        base_url: the service's address; None for OpenAI's or that of the environment.
        key_env: the variable that holds its key, if not the host's own.
        base: the adapter's base, if not where its config says.
        prompt: template, for a model that does not bring one.
        preset: `greedy`, or `sample`: temperature 0.7 and top-p 0.9.
        max_new_tokens: cap on an answer's tokens.
    """

    api: bool = False
    base_url: str | None = None
    key_env: str | None = None
    base: str | None = None
    prompt: str | None = None
    preset: str = "sample"
    max_new_tokens: int = 512


def make_speaker(name: str, options: SpeakerOptions) -> Speaker:
    """The speaker that options name.

    Args:
        name: a folder or Hub id of an adapter or a model, or the name of a served one.
        options: where it is, and how it speaks.

    Raises:
        InputError: options that exclude each other, or a model that cannot be loaded.
    """
    sampled = options.preset == "sample"
    if options.api:
        if options.base or options.prompt:
            raise InputError("--base and --prompt are the server's business - leave them out, or drop --api.")
        request = {"temperature": 0.7 if sampled else 0.0, "max_tokens": options.max_new_tokens}
        return ServedSpeaker(name, options.base_url, options.key_env, request)
    if options.base_url or options.key_env:
        raise InputError("--base-url and --key-env are for served models - leave them out, or add --api.")
    from kollm.answer.local import load_system

    sampling: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "do_sample": sampled}
    if sampled:
        sampling |= {"temperature": 0.7, "top_p": 0.9}
    return LocalSpeaker(load_system(name, base=options.base, prompt=options.prompt), sampling)


def _pieces(streamer: Any, thread: threading.Thread) -> Iterator[str]:
    """What the streamer gives; it looks up from waiting, so that Ctrl-C is heard."""
    from queue import Empty

    while True:
        try:
            yield next(streamer)
        except StopIteration:
            return
        except Empty:
            if not thread.is_alive():
                return


def _before_heading(pieces: Iterator[str], stops: tuple[str, ...]) -> Iterator[str]:
    """The pieces up to a line that begins with one of the template's headings; a last line that may become one waits."""
    said, held = "", ""
    for piece in pieces:
        held += piece
        kept, heading = cut_at_heading(said + held, stops)
        if heading:
            yield kept[len(said) :].rstrip()
            return
        line_start = (said + held).rfind("\n") + 1
        last = (said + held)[line_start:]
        waits = any(stop.startswith(last) for stop in stops) if last else bool(stops)
        ready = (said + held)[: line_start - 1 if waits and line_start else (0 if waits else None)]
        if len(ready) > len(said):
            yield ready[len(said) :]
            said, held = ready, (said + held)[len(ready) :]
    if held:
        yield held
