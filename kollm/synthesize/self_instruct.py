"""Self-Instruct (arXiv 2212.10560): seed tasks -> new instructions -> which are classification -> instances.

Each step asks a chat model through the ledger. What goes into a prompt is drawn by seed, round and place, so that the
same command replays what was bought and goes on from there. For classification tasks the answer comes first and an
input is made for it; otherwise a model makes inputs whose answer is nearly always the same one.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from kollm.core.counting import counted
from kollm.core.errors import ServiceError
from kollm.core.progress import Progress, say
from kollm.core.records import Provenance, Record
from kollm.services.chat import ChatClient
from kollm.services.chat.messages import ChatReply, ChatRequest
from kollm.synthesize.made import Made
from kollm.synthesize.novelty import InstructionPool
from kollm.synthesize.seeds import Instance, SeedTask
from kollm.synthesize.wording import Wording

SOURCE = "self_instruct"
EXAMPLES = 8
MADE_EXAMPLES = 2
"""Instructions shown in a prompt, and how many of them the model made itself; the others are seeds."""
ASKED_FOR = 8
"""New instructions that one prompt asks for."""
REQUESTS_A_ROUND = 5
MOST_EMPTY_ROUNDS = 5
"""Rounds in a row without a new instruction, after which the model is said to have no more."""
CLASSIFICATION_EXAMPLES, OTHER_EXAMPLES = 12, 19
INSTANCE_EXAMPLES = 4
INSTANCES = 5
"""Instances asked for at most."""

Item = TypeVar("Item")

_NUMBERED = re.compile(r"^\s*\d+\s*[.)]\s*", re.MULTILINE)
_HANGUL = re.compile(r"[가-힣]")


@dataclass(frozen=True, slots=True)
class Settings:
    """What to make.

    Attributes:
        instructions: new instructions wanted.
        seed: decides what goes into the prompts.
        most_alike: ROUGE-L with an earlier instruction from which on a new one is dropped; 0.7 in the paper.
        options: decoding options of all requests, over those of each step.
        licence: SPDX identifier that the rows get.
    """

    instructions: int
    seed: int = 0
    most_alike: float = 0.7
    options: dict[str, object] = field(default_factory=dict)
    licence: str = "LicenseRef-model-terms"


async def self_instruct(
    client: ChatClient, seeds: Sequence[SeedTask], wording: Wording, language: str, settings: Settings
) -> Made:
    """Make new tasks from seed tasks.

    Raises:
        QuotaError, ServiceError, MissingKeyError: as ChatClient raises them; what was answered is in the ledger.
    """
    dropped: Counter[str] = Counter()
    instructions = await new_instructions(client, seeds, wording, language, settings, dropped)
    replies = await client.all(_kind_requests(client, instructions, seeds, wording, settings))
    kinds = [_says_one(reply, wording) for reply in replies]
    answers = await client.all(_instance_requests(client, instructions, kinds, seeds, wording, settings))
    records = []
    for number, (instruction, kind, reply) in enumerate(zip(instructions, kinds, answers, strict=True)):
        if reply.status not in ("ok", "truncated"):
            dropped[reply.status] += 1
            continue
        instances = read_instances(reply, wording)
        kept = usable_instances(instances)
        dropped["instance_unusable"] += len(instances) - len(kept)
        if not kept:
            dropped["no_instance"] += 1
        for place, instance in enumerate(kept, start=1):
            suffix = "" if place == 1 else f"-i{place}"
            records.append(
                Record(
                    id=f"{SOURCE}-{settings.seed}-{number}{suffix}",
                    source=SOURCE,
                    instruction=instruction,
                    input=instance.input,
                    output=instance.output,
                    lang=language,
                    licence=settings.licence,
                    provenance=Provenance(engine=client.model, category="classification" if kind else ""),
                )
            )
    return Made(records, +dropped)


async def new_instructions(
    client: ChatClient,
    seeds: Sequence[SeedTask],
    wording: Wording,
    language: str,
    settings: Settings,
    dropped: Counter[str],
) -> list[str]:
    """Ask for new instructions, round by round, until there are as many as wanted or no new ones come."""
    pool, made = InstructionPool(), list[str]()
    for task in seeds:
        pool.add(task.instruction)
    empty = asked = 0
    with Progress("new instructions", settings.instructions, "instruction") as progress:
        while len(made) < settings.instructions and empty < MOST_EMPTY_ROUNDS:
            places = range(asked, asked + REQUESTS_A_ROUND)
            requests = [_new_request(client, place, seeds, made, wording, settings) for place in places]
            asked += REQUESTS_A_ROUND
            before = len(made)
            for reply in _heard(await client.all(requests)):
                for instruction in read_instructions(reply):
                    reason = unusable(instruction, wording, language)
                    if reason is None and pool.nearest(instruction, settings.most_alike):
                        reason = "instruction_not_new"
                    if reason is not None:
                        dropped[reason] += 1
                    elif len(made) < settings.instructions:
                        pool.add(instruction)
                        made.append(instruction)
                        progress.advance()
            empty = 0 if len(made) > before else empty + 1
    if len(made) < settings.instructions:
        say(
            f"The model made no new instruction in {counted(empty, 'round')}: {len(made)} of {settings.instructions} were made."
        )
    return made


def sketch(client: ChatClient, seeds: Sequence[SeedTask], wording: Wording, settings: Settings) -> list[ChatRequest]:
    """Requests like those to come if every instruction that comes is new: the least that a run asks for."""
    rounds = range(math.ceil(settings.instructions / ASKED_FOR))
    requests = [_new_request(client, place, seeds, (), wording, settings) for place in rounds]
    longest = max(seeds, key=lambda task: len(task.instruction))
    alike = [longest.instruction] * settings.instructions
    later = _kind_requests(client, alike, seeds, wording, settings)
    later += _instance_requests(client, alike, [longest.is_classification] * len(alike), seeds, wording, settings)
    return requests + [replace(request, sample=number) for number, request in enumerate(later)]


def _new_request(
    client: ChatClient,
    place: int,
    seeds: Sequence[SeedTask],
    made: Sequence[str],
    wording: Wording,
    settings: Settings,
) -> ChatRequest:
    generator = random.Random(f"{settings.seed}\n{place}")
    shown = _draw(generator, made, MADE_EXAMPLES)
    shown += _draw(generator, [task.instruction for task in seeds], EXAMPLES - len(shown))
    generator.shuffle(shown)
    examples = "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(shown, start=1))
    first = len(shown) + 1
    prompt = wording.new_instructions.format(examples=examples, first=first, last=first + ASKED_FOR - 1)
    papers = client.facts.options(max_tokens=1024, temperature=0.7, top_p=0.5, presence_penalty=2.0)
    options = {**papers, **settings.options}
    return ChatRequest([{"role": "user", "content": prompt}], options, sample=place)


def _kind_requests(
    client: ChatClient, instructions: Sequence[str], seeds: Sequence[SeedTask], wording: Wording, settings: Settings
) -> list[ChatRequest]:
    generator = random.Random(f"{settings.seed}\nclassify")
    shown = _draw(generator, [task for task in seeds if task.is_classification], CLASSIFICATION_EXAMPLES)
    shown += _draw(generator, [task for task in seeds if not task.is_classification], OTHER_EXAMPLES)
    generator.shuffle(shown)
    answers = {True: wording.is_one, False: wording.is_none}
    examples = "\n\n".join(
        wording.classify_example.format(instruction=task.instruction, answer=answers[task.is_classification])
        for task in shown
    )
    options = {**client.facts.options(max_tokens=16, temperature=0.0), **settings.options}
    requests = []
    for instruction in instructions:
        prompt = wording.classify.format(
            is_one=wording.is_one, is_none=wording.is_none, examples=examples, instruction=instruction
        )
        requests.append(ChatRequest([{"role": "user", "content": prompt}], options))
    return requests


def _instance_requests(
    client: ChatClient,
    instructions: Sequence[str],
    kinds: Sequence[bool],
    seeds: Sequence[SeedTask],
    wording: Wording,
    settings: Settings,
) -> list[ChatRequest]:
    options = {**client.facts.options(max_tokens=1024, temperature=0.0), **settings.options}
    requests = []
    for number, (instruction, kind) in enumerate(zip(instructions, kinds, strict=True)):
        generator = random.Random(f"{settings.seed}\ninstances\n{number}")
        shown = _draw(generator, [task for task in seeds if task.is_classification == kind], INSTANCE_EXAMPLES)
        template = wording.output_first if kind else wording.input_first
        prompt = template.format(
            count=INSTANCES,
            no_input=wording.no_input,
            examples="\n\n".join(_show(task, wording) for task in shown),
            instruction=instruction,
        )
        requests.append(ChatRequest([{"role": "user", "content": prompt}], options))
    return requests


def read_instructions(reply: ChatReply) -> list[str]:
    """The instructions of a numbered list; of a reply that was cut off, without the last."""
    items = [" ".join(item.split()).strip("*- ") for item in _NUMBERED.split(reply.text)[1:]]
    if reply.status == "truncated":
        items = items[:-1]
    return [item for item in items if item]


def unusable(instruction: str, wording: Wording, language: str) -> str | None:
    """Why an instruction is no use, or None."""
    words = instruction.split()
    if not wording.minimum_words <= len(words) <= wording.maximum_words:
        return "instruction_too_short" if len(words) < wording.minimum_words else "instruction_too_long"
    if not instruction[0].isalnum() and instruction[0] not in "'\"‘“":
        return "instruction_starts_oddly"
    if (language == "ko") != bool(_HANGUL.search(instruction)):
        return "instruction_in_another_language"
    lowered = instruction.lower()
    boundary = r"\b" if language == "en" else ""
    if any(re.search(f"{boundary}{re.escape(word)}{boundary}", lowered) for word in wording.unsuitable):
        return "instruction_needs_more_than_text"
    if lowered.startswith(tuple(start.lower() for start in wording.bad_starts)):
        return "instruction_starts_oddly"
    return None


def read_instances(reply: ChatReply, wording: Wording) -> list[Instance]:
    """The instances of a reply, in either order of its labels; what was cut off at the end is left out."""
    labels = re.compile(
        rf"^[ \t*]*({re.escape(wording.input_label)}|{re.escape(wording.output_label)})[ \t*]*:", re.MULTILINE
    )
    parts = labels.split(reply.text)
    pieces = list(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))
    if reply.status == "truncated":
        pieces = pieces[:-1]
    instances = []
    for (first, text), (second, other) in zip(pieces[::2], pieces[1::2], strict=False):
        if first == second:
            break
        given, answer = (text, other) if first == wording.input_label else (other, text)
        instances.append(Instance("" if given.strip(".") == wording.no_input else given, answer))
    return instances


def usable_instances(instances: Sequence[Instance]) -> list[Instance]:
    """Without empty answers, answers that repeat the input, repetitions, and inputs that have two answers."""
    answers: dict[str, set[str]] = {}
    for instance in instances:
        answers.setdefault(instance.input, set()).add(instance.output)
    return [
        instance
        for instance in dict.fromkeys(instances)
        if instance.output and instance.output != instance.input and len(answers[instance.input]) == 1
    ]


def _heard(replies: Sequence[ChatReply]) -> Iterator[ChatReply]:
    """Replies with text.

    Raises:
        ServiceError: the service answered none of them.
    """
    if all(reply.status == "api_error" for reply in replies):
        raise ServiceError(
            f"None of {counted(len(replies), 'request')} was answered: {replies[0].error} - run the command again later."
        )
    return (reply for reply in replies if reply.status in ("ok", "truncated"))


def _says_one(reply: ChatReply, wording: Wording) -> bool:
    """Whether the model calls it a classification task; no answer counts as no."""
    return reply.text.strip().strip("'\"").casefold().startswith(wording.is_one.casefold())


def _show(task: SeedTask, wording: Wording) -> str:
    """A seed task as the model is to write one: for classification the answer first."""
    lines = [f"{wording.instruction_label}: {task.instruction}"]
    for instance in task.instances:
        pair = [
            f"{wording.input_label}: {instance.input or wording.no_input}",
            f"{wording.output_label}: {instance.output}",
        ]
        lines += reversed(pair) if task.is_classification else pair
    return "\n".join(lines)


def _draw(generator: random.Random, items: Sequence[Item], count: int) -> list[Item]:
    return generator.sample(list(items), min(count, len(items)))
