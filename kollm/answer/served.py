"""Answers of a served model (GPT-3.5, GPT-4, vLLM, `transformers serve`): the same Generations, through the chat client.

Every answer is in the ledger before it is used, so that a stopped run goes on and nothing is paid twice. The model gets
the task as a person would type it, instruction, blank line, input, or what `prompt` says it was trained on; its chat
template is the server's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from kollm.answer.file import check_same_way, read_generations, write_generations
from kollm.core.counting import counted
from kollm.core.errors import InputError, ServiceError, StateError
from kollm.core.files import read_json
from kollm.core.generations import Generation, task_columns
from kollm.core.progress import Progress, say
from kollm.core.records import Record
from kollm.recipe.chat import CHAT, ChatEncoder
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.tools import definitions, is_call, sent
from kollm.services.chat import ChatClient, ChatReply, ChatRequest, run_async
from kollm.services.chat.row_messages import row_messages, tool_options

MAX_NEW_TOKENS = 400
"""As in the paper's decoding, so that served rows stand beside its own."""
TEMPERATURE = 0.0
SAMPLING_TEMPERATURE = 1.0
INPUT_HEADING = "### 입력:"


class ServedAsking(NamedTuple):
    """How a served model is asked.

    Attributes:
        max_new_tokens: cap on an answer's tokens; None for MAX_NEW_TOKENS.
        samples: answers to each task; several are drawn at temperature 1.
        shots: solved examples, put before each task as earlier turns.
        prompt: template that the served model was trained with, by kollm; empty for a model of others.
    """

    max_new_tokens: int | None = None
    samples: int = 1
    shots: Sequence[Record] = ()
    prompt: str = ""


PLAINLY = ServedAsking()


def answer_by_api(
    records: Sequence[Record],
    client: ChatClient,
    output: Path,
    asking: ServedAsking = PLAINLY,
    *,
    system: str | None = None,
    dry_run: bool = False,
) -> int:
    """Answer every record by a served model; what `output` holds of other systems and other tasks stays.

    Args:
        records: the tasks.
        client: the service and the model; its kind should be `answer`.
        output: the generations.jsonl to write or to add to, once every task is answered.
        asking: how the model is asked.
        system: name in reports; by default the model's.
        dry_run: say what it would cost at most, and ask nobody.

    Returns:
        How many answers came from the ledger.

    Raises:
        InputError: no records.
        StateError: `output` holds answers of a system of this name by another model or with other parameters.
        MissingKeyError, QuotaError: as ChatClient raises them.
        ServiceError: as ChatClient raises it, or tasks that got no answer; those that did are in the ledger.
    """
    if not records:
        raise InputError("There are no tasks to answer - the evaluation dataset has zero rows.")
    max_new_tokens, samples, shots, prompt = asking
    temperature = TEMPERATURE if samples == 1 else SAMPLING_TEMPERATURE
    options = client.facts.options(max_tokens=max_new_tokens or MAX_NEW_TOKENS, temperature=temperature, seed=0)
    form = served_form(prompt, [*shots, *records])
    asked = [(record, sample) for record in records for sample in range(samples)]
    requests = [
        ChatRequest(
            form.messages(record, shots),
            {**_seeded(options, sample), **tool_options(form.tools(record))},
            sample=sample,
        )
        for record, sample in asked
    ]
    if count := sum(bool(record.tools) and not form.tools(record) for record in records):
        say(
            f"{counted(count, 'task is', 'tasks are')} asked without their tool definitions, since the prompt has no place for them"
        )
    client.say_estimate(requests)
    if dry_run:
        return 0
    name = system or client.model
    params: dict[str, Any] = {
        "preset": "api",
        "base_url": client.base_url,
        **options,
        "shots": [shot.id for shot in shots],
        **({"prompt": prompt} if prompt else {}),
        **({"samples": samples} if samples > 1 else {}),
    }
    _refuse_another_way(output, name, client.model, params)
    replies = run_async(_ask(client, requests))
    failed = [
        f"{record.id}: {reply.error}"
        for (record, _), reply in zip(asked, replies, strict=True)
        if reply.status == "api_error"
    ]
    if failed:
        raise ServiceError(
            f"{len(failed)} of {counted(len(asked), 'task' if samples == 1 else 'request')} got no answer from {client.base_url} (first: {failed[0]}) - run the "
            "same command again; what was answered is in the ledger and not paid again."
        )
    rows = [
        replace(_generation(record, reply, name, client.model, params), sample=sample)
        for (record, sample), reply in zip(asked, replies, strict=True)
    ]
    write_generations(output, name, rows)
    return sum(reply.replayed for reply in replies)


def _seeded(options: Mapping[str, Any], sample: int) -> dict[str, Any]:
    """The options with a seed of the sample's own, where the service takes one."""
    return {**options, "seed": sample} if "seed" in options else dict(options)


async def _ask(client: ChatClient, requests: Sequence[ChatRequest]) -> list[ChatReply]:
    replies: dict[int, ChatReply] = {}
    with Progress(f"answers ({client.model})", len(requests), "answer") as progress:
        async with contextlib.aclosing(client.stream(requests)) as stream:
            async for index, reply in stream:
                replies[index] = reply
                progress.advance()
    return [replies[index] for index in range(len(requests))]


def input_heading(prompt: str) -> str:
    """What stands between an instruction and its input in a message, so that the template makes of it what training had.

    Servers drop kollm's key `input`; the templates of KULLM read an input that stands under its heading in the message.

    Args:
        prompt: name of a template, or the folder of an adapter or model that kollm trained; empty for none.

    Raises:
        InputError: there is no such template, or the folder is not kollm's.
    """
    if not prompt:
        return "\n\n"
    name = _prompt_name(prompt)
    if name in PromptTemplate.names():
        headings = PromptTemplate.load(name).stop
        return f"\n\n{INPUT_HEADING}\n" if INPUT_HEADING in headings else "\n"
    if name == CHAT or name.endswith(".jinja"):
        return "\n\n"
    raise InputError(
        f"There is no prompt template '{name}' - use {CHAT}, one of {', '.join(PromptTemplate.names())}, or the folder of what "
        "is served."
    )


@dataclass(frozen=True, slots=True)
class Form:
    """How a server is asked, so that its template makes of it what training had.

    Attributes:
        heading: what stands between an instruction and its input.
        calls: it gets calls of tools and their results as such; else they are the text that rows have them as.
        definitions: it gets the tools' definitions.
        encoder: of what is served, where that is at hand: it tells which definitions it writes.
    """

    heading: str = "\n\n"
    calls: bool = True
    definitions: bool = True
    encoder: ChatEncoder | None = None

    def messages(self, record: Record, shots: Sequence[Record] = ()) -> list[dict[str, Any]]:
        """The messages of a request."""
        messages = row_messages(record, shots, self.heading)
        return sent(messages) if self.calls else messages

    def tools(self, record: Record) -> list[Any]:
        """The definitions of a request; none where the row has none, or training showed none."""
        if not self.definitions:
            return []
        return definitions(record.tools) if self.encoder is None else self.encoder.definitions(record)


def served_form(prompt: str, records: Sequence[Record]) -> Form:
    """How a server is asked.

    Args:
        prompt: as `input_heading` takes it. The templates of KULLM know no tools; what a folder's template knows is tried; any
            other template is the server's business.
        records: the tasks.

    Raises:
        InputError: as `input_heading`, or the folder's tokenizer cannot be read.
    """
    heading = input_heading(prompt)
    if prompt and _prompt_name(prompt) in PromptTemplate.names():
        return Form(heading, calls=False, definitions=False)
    if prompt and Path(prompt).is_dir() and any(map(_has_tools, records)):
        from kollm.answer.local import trained_encoder

        encoder = trained_encoder(prompt)
        assert isinstance(encoder, ChatEncoder)
        return Form(heading, encoder.grammar.tools, encoder.grammar.definitions, encoder)
    return Form(heading)


def _has_tools(record: Record) -> bool:
    return bool(record.tools) or any(is_call(answer) for _, answer in record.history)


def _prompt_name(prompt: str) -> str:
    """The template's name, where `prompt` may be the folder of an adapter or model that kollm trained."""
    return str(read_json(Path(prompt) / "training.json").get("prompt", "")) if Path(prompt).is_dir() else prompt


def _refuse_another_way(output: Path, name: str, model: str, params: dict[str, Any]) -> None:
    if not output.exists():
        return
    for there in read_generations(output):
        if there.system != name:
            continue
        if there.model != model:
            raise StateError(
                f"{output} holds answers of '{there.model}' under the name '{name}' - choose another name with --system, "
                "or write to another file."
            )
        check_same_way(output, there, params, [key for key in (*params, "samples") if key != "base_url"])


def _generation(record: Record, reply: ChatReply, system: str, model: str, params: dict[str, Any]) -> Generation:
    """An answer; a refusal is an empty one with the finish reason `refusal`."""
    return Generation(
        **task_columns(record),
        response=reply.text.strip(),
        model=model,
        adapter="",
        params={**params, "model_returned": reply.model_returned},
        finish_reason="refusal" if reply.status == "refusal" else reply.finish_reason,
        system=system,
    )
