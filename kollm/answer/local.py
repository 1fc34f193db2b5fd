"""Answers: one adapter, merged model or base decodes the evaluation tasks into Generations.

Prompts are sorted by length and batched; a batch is written when it is whole, so that a killed run goes on with the
next batch and every batch has the same rows as in an undisturbed run. Several processes (`accelerate launch`) share
the batches; each writes its own part file, and the main process joins them in the order of the tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState

from kollm.answer.engines import Asked, Engine, Weights, load_engine
from kollm.answer.file import check_same_way, read_generations, write_generations
from kollm.answer.presets import PAPER, Decoding
from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import JsonlAppender
from kollm.core.generations import Generation, task_columns
from kollm.core.hashing import content_id
from kollm.core.progress import Progress, say
from kollm.core.records import Record
from kollm.core.results import read_training_file
from kollm.recipe.chat import CHAT
from kollm.recipe.prompt import PromptTemplate, cut_at_heading
from kollm.recipe.tokens import NOT_SHOWN, PromptEncoder, plain_ids
from kollm.services.adapter_base import find_adapter_base
from kollm.services.local_model import LocalModel, find_model, load_tokenizer
from kollm.train.prompts import make_encoder


class Answer(NamedTuple):
    """A decoded response, why it ended: `stop` (an end token or a heading of the template) or `length`, and that heading."""

    response: str
    finish_reason: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """A loaded model that answers: its name in reports, what it is made of, what decodes, and what makes its prompts."""

    name: str
    model: str
    adapter: str
    engine: Engine
    engine_name: str
    encoder: PromptEncoder
    weights: str

    @property
    def network(self) -> Any:
        """The torch module, of the engine transformers alone."""
        return self.engine.network  # type: ignore[attr-defined]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, which carries the prompt template."""
        return self.encoder.tokenizer


class Loading(NamedTuple):
    """How a model is loaded.

    Attributes:
        dtype: weights' type on a GPU; a CPU decodes in float32.
        engine: what decodes, one of `kollm.answer.engines.ENGINES`.
        revision: commit on the Hub, where the model's name says none.
    """

    dtype: str = "bfloat16"
    engine: str = "transformers"
    revision: str | None = None


USUAL_LOADING = Loading()


def load_system(
    model_or_adapter: str,
    *,
    name: str | None = None,
    base: str | None = None,
    prompt: str | None = None,
    enable_thinking: bool | None = None,
    loading: Loading = USUAL_LOADING,
) -> System:
    """Load an adapter with its base, or a whole model, on this process's device.

    Args:
        model_or_adapter: a folder or Hub id (`ORG/NAME@REVISION`); a folder or repository with `adapter_config.json`
            is an adapter.
        name: of the system in reports; by default `adapter`, `merged` or `base`.
        base: where the adapter's base is, if not where its config says.
        prompt: template name, or the path of one; an adapter of kollm brings its own, and a base may have one.
        enable_thinking: the chat template's variable of that name; None for what the model was trained with.
        loading: how.

    Raises:
        InputError: nothing is there, it cannot be read, it does not fit its base, no prompt template is known for it, or the
            engine is not installed.
    """
    found = find_model(model_or_adapter, loading.revision)
    under = find_adapter_base(found, base) if found.is_adapter else found
    if found.is_adapter and under.is_adapter:
        raise InputError(f"The base '{under.name}' is an adapter itself - name the model under it: --base MODEL.")
    PartialState()  # before torch's threads, and so that each process has its device
    tokenizer = load_tokenizer(_with_tokenizer(found, under), padding_side="left")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"The tokenizer of '{found.name}' has neither a padding token nor an end of text - mend its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    weights = Weights(under, found if found.is_adapter else None, len(tokenizer), loading.dtype)
    return System(
        name=name or _default_name(found),
        model=under.name,
        adapter=found.name if found.is_adapter else "",
        engine=load_engine(loading.engine, weights),
        engine_name=loading.engine,
        encoder=_encoder(found, tokenizer, prompt, enable_thinking),
        weights=content_id([found.content(), under.content()]) if found.is_adapter else found.content(),
    )


def says_its_prompt(model_or_adapter: str, base: str | None = None) -> bool:
    """Whether a model brings a prompt template: that of its training by kollm, or a chat template.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    found = find_model(model_or_adapter)
    if (found.folder / "training.json").is_file():
        return True
    under = find_adapter_base(found, base) if found.is_adapter else found
    return bool(load_tokenizer(_with_tokenizer(found, under)).chat_template)


def trained_encoder(folder: str) -> PromptEncoder:
    """The prompts that an adapter or merged model of kollm was trained with, without its weights.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    found = find_model(folder)
    return _encoder(found, load_tokenizer(found), None, None)


def _with_tokenizer(found: LocalModel, under: LocalModel) -> LocalModel:
    """An adapter that extends the vocabulary brings its tokenizer; another's may have none."""
    return found if (found.folder / "tokenizer_config.json").is_file() else under


def _default_name(model: LocalModel) -> str:
    """What kollm merged says how it was trained, as an adapter does; a base does not."""
    if model.is_adapter:
        return "adapter"
    return "merged" if (model.folder / "training.json").is_file() else "base"


def _encoder(model: LocalModel, tokenizer: Any, prompt: str | None, enable_thinking: bool | None) -> PromptEncoder:
    """The prompts that an adapter or merged model of kollm was trained with, or those asked for."""
    marker = model.folder / "training.json"
    trained = read_training_file(marker) if marker.is_file() else {}
    name = prompt or trained.get("prompt")
    if name is None:
        if not tokenizer.chat_template:
            raise InputError(
                f"'{model.name}' does not say which prompt template it was trained with - name one: --prompt "
                f"{' or '.join(PromptTemplate.names())}."
            )
        name = CHAT
    if enable_thinking is None:
        enable_thinking = (trained.get("recipe") or {}).get("enable_thinking")
    if prompt is None and name not in PromptTemplate.names():
        name = CHAT  # a file's template came with the tokenizer
    return make_encoder(name, tokenizer, enable_thinking=enable_thinking)


def generate_answers(
    records: Sequence[Record],
    system: System,
    output: Path,
    how: Decoding = PAPER,
    *,
    batch_size: int = 16,
    shots: Sequence[Record] = (),
) -> int:
    """Answer every record and append the Generations of this system to `output`, in the order of the records.

    Batches that an earlier, killed run finished are kept. Rows of other systems in `output` stay, and this system's
    answers to other tasks.

    Args:
        records: the tasks.
        system: what answers.
        output: the file.
        how: how answers are drawn, and how many to each record.
        batch_size: prompts decoded together. In float32 and without sampling the answers do not depend on it.
        shots: solved examples that are put before every prompt.

    Returns:
        How many answers were kept from before.

    Raises:
        InputError: no records, ids that repeat, or several samples of a preset that gives one answer.
        StateError: `output` holds answers of a system of this name made with another model or other parameters.
    """
    if not records:
        raise InputError("There are no tasks to answer - the evaluation dataset has zero rows.")
    if len({record.id for record in records}) != len(records):
        raise InputError("The evaluation dataset has ids that repeat - build it again with `kollm data build`.")
    state = PartialState()
    params = {
        **how.params(),
        "prompt": system.encoder.name,
        "prompt_sha256": system.encoder.sha256,
        "weights": system.weights,
        "shots": [shot.id for shot in shots],
        **({} if system.engine_name == "transformers" else {"engine": system.engine_name}),
    }
    kept = _finished(output, system, params, {record.id: record for record in records})
    hidden = [record for record in records if record.tools and NOT_SHOWN in system.encoder.notes(record)]
    if hidden and state.is_main_process:
        say(
            f"{counted(len(hidden), 'task is', 'tasks are')} asked without their tool definitions, since the prompt has no place for them"
        )
    once = _encode(records, system, params["max_new_tokens"], shots)
    prompts = [prompt._replace(sample=sample) for prompt in once for sample in range(how.samples)]
    batches = [prompts[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
    todo = [batch for batch in batches if not all(prompt.key in kept for prompt in batch)]
    state.wait_for_everyone()  # a process that read the answers of a faster one would share out other batches
    part = output.with_name(f"{_part_prefix(output, system)}{state.process_index}")
    mine = todo[state.process_index :: state.num_processes]
    with JsonlAppender(part) as writer, Progress(f"generate ({system.name})", len(prompts), "answer") as progress:
        progress.advance(len(prompts) - sum(len(batch) for batch in todo))
        for batch in mine:
            for prompt, answer in zip(batch, _decode(batch, system, params), strict=True):
                generation = _generation(prompt, answer, system, params)
                writer.append(generation.to_row())
                progress.advance(state.num_processes)
    state.wait_for_everyone()
    if state.is_main_process:
        _join(output, system, params, records, how.samples)
    state.wait_for_everyone()
    return sum(prompt.key in kept for prompt in prompts) if todo else len(prompts)


class _Prompt(NamedTuple):
    record: Record
    tokens: list[int]
    cut_characters: int
    sample: int = 0

    @property
    def key(self) -> tuple[str, int]:
        return self.record.id, self.sample


def _encode(records: Sequence[Record], system: System, max_new_tokens: int, shots: Sequence[Record]) -> list[_Prompt]:
    """Token ids of every prompt, longest first, so that memory runs out at once or never."""
    context = system.engine.context
    room = context - max_new_tokens
    tokenizer = system.tokenizer
    before = [
        token
        for shot in shots
        for token in (*system.encoder.prompt(shot), *plain_ids([f"{shot.output}\n\n"], tokenizer)[0])
    ]

    def tokens(record: Record, cut: int) -> list[int]:
        shorter = replace(record, input=record.input[: len(record.input) - cut])
        return [*before, *system.encoder.prompt(shorter)]

    prompts = []
    for record in records:
        ids, cut = tokens(record, 0), 0
        if len(ids) > room:
            # Shorten the input from its end: the instruction and the response header must stay.
            low, high = 0, len(record.input)
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if len(tokens(record, middle)) <= room else (middle + 1, high)
            ids, cut = tokens(record, low), low
            if len(ids) > room:
                raise InputError(
                    f"Task '{record.id}' needs {counted(len(ids), 'token')} without its input, and {room} of the model's {context} "
                    f"are left beside {max_new_tokens} new ones - lower --max-new-tokens or use fewer --shots."
                )
        prompts.append(_Prompt(record, ids, cut))
    return sorted(prompts, key=lambda prompt: (-len(prompt.tokens), prompt.record.id))


def _decode(batch: Sequence[_Prompt], system: System, params: Mapping[str, Any]) -> Iterator[Answer]:
    keys = [list(prompt.key) if "samples" in params else prompt.record.id for prompt in batch]
    ends = system.encoder.ends
    asked = Asked([prompt.tokens for prompt in batch], keys, params, ends, system.tokenizer)
    for new in system.engine.answer(asked):
        end = next((place for place, token in enumerate(new) if token in ends), None)
        text = system.tokenizer.decode(new[:end], skip_special_tokens=True)
        yield _cut_at_heading(text, system.encoder.stop, end is not None)


def _cut_at_heading(text: str, stops: Sequence[str], ended: bool) -> Answer:
    """Cut at the template's own heading: after it the model writes the next prompt, not the answer."""
    kept, heading = cut_at_heading(text, stops)
    return Answer(kept.strip(), "stop" if ended or heading else "length", heading)


def _generation(prompt: _Prompt, answer: Answer, system: System, params: Mapping[str, Any]) -> Generation:
    cut: dict[str, Any] = {"input_cut_characters": prompt.cut_characters} if prompt.cut_characters else {}
    if answer.heading:
        cut["cut_at_heading"] = answer.heading
    return Generation(
        **task_columns(prompt.record),
        response=answer.response,
        model=system.model,
        adapter=system.adapter,
        params={**params, **cut},
        finish_reason=answer.finish_reason,
        system=system.name,
        sample=prompt.sample,
    )


def _part_prefix(output: Path, system: System) -> str:
    """Readable, and of this name alone: `a b` and `a-b` must not share their parts."""
    readable = re.sub(r"[^0-9A-Za-z가-힣.]+", "-", system.name)
    return f"{output.name}.{readable}-{content_id(system.name).removeprefix('sha256:')[:8]}.part-"


def _parts(output: Path, system: System) -> list[Path]:
    prefix = _part_prefix(output, system)
    return sorted(path for path in output.parent.iterdir() if path.name.startswith(prefix))


def _finished(
    output: Path, system: System, params: Mapping[str, Any], tasks: Mapping[str, Record]
) -> dict[tuple[str, int], Generation]:
    """This system's answers to these very tasks, from the joined file and the parts of a killed run."""
    for part in _parts(output, system):
        JsonlAppender(part).close()  # drops a line that the kill tore
    found: dict[tuple[str, int], Generation] = {}
    for path in [*([output] if output.exists() else []), *_parts(output, system)]:
        for generation in read_generations(path):
            if generation.system != system.name:
                continue
            check_same_way(
                path,
                generation,
                params,
                ("weights", "preset", "max_new_tokens", "samples", "prompt_sha256", "shots", "engine"),
            )
            task = tasks.get(generation.id)
            if task is not None and _asks(task, generation):
                found[generation.id, generation.sample] = generation
    return found


def _asks(task: Record, answer: Generation) -> bool:
    """Whether an answer is one to this very task: all that the prompt is made of."""
    asked = answer.system_message, answer.history, answer.instruction, answer.input, answer.tools
    return asked == (task.system, task.history, task.instruction, task.input, task.tools)


def _join(output: Path, system: System, params: Mapping[str, Any], records: Sequence[Record], samples: int) -> None:
    answers = _finished(output, system, params, {record.id: record for record in records})
    ordered = [answers[record.id, sample] for record in records for sample in range(samples)]
    write_generations(output, system.name, ordered)
    for part in _parts(output, system):
        part.unlink()
