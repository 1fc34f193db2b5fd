"""The local judge: a causal language model's own probabilities as scores.

For each axis the prompt is cut right after the axis's label in the reply form, and the score is the expectation of the
allowed score values under the probabilities that the model gives to their tokens there (G-Eval, Liu et al. 2023,
Section 2.3), renormalised over the allowed values. The mass that fell on them is kept: where it is small, the model did
not understand that a score was due, and the expectation says little.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from kollm.core.errors import InputError
from kollm.core.hashing import canonical_json
from kollm.core.verdicts import Status, Verdict
from kollm.judge.rubric import Context, Rubric
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import Outcome, Question, verdict_of
from kollm.services.local_model import LocalModel, find_whole_model, inference_dtype, load_network, load_tokenizer
from kollm.services.weights import content_hash

Ids = tuple[int, ...]
CUTTABLE = ("tools", "response", "input", "instruction")
"""Fields that are shortened when a prompt exceeds the model's context, after the earlier turns, in this order, each from
its end."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """One question as token ids: one cut an axis, and what was left out to fit the context."""

    question: Question
    cuts: tuple[Ids, ...]
    omitted: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One sequence to run, and the lengths of the prefixes whose next-token probabilities are wanted."""

    prompt: int
    ids: Ids
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Opening:
    """The tokens that every prompt of a run begins with, and the model's cache after them (None: run them each time)."""

    ids: Ids
    cache: DynamicCache | None


def _name(model: LocalModel, said: str | None) -> str:
    """`ORG/NAME@COMMIT`, or `FOLDER@HASH`: another judge in a folder of that name has other verdicts."""
    if model.repository is not None:
        return model.name
    return f"{said or model.name}@{content_hash(model.folder).removeprefix('sha256:')[:12]}"


class LocalJudge:
    """Judges with a causal model of the Hub or of a folder.

    Args:
        model: folder or `ORG/NAME@REVISION`; only safetensors are read, and no code of the model's repository runs.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file; it asks for scores.
        revision: commit of the Hub model.
        name: what verdicts call a folder, if not where it is; a hash of its content stands behind it.
        batch_tokens: padded tokens of one batch.
        device: where to run; by default a GPU where there is one.

    Raises:
        InputError: no such model, one that is not causal, or one whose context does not hold the rubric itself.
        ServiceError: the Hub cannot be reached.
    """

    mode = "local"
    samples = 1

    def __init__(
        self,
        model: str | Path,
        rubric: str | Path | Rubric,
        *,
        revision: str | None = None,
        name: str | None = None,
        batch_tokens: int = 8192,
        device: str | None = None,
    ) -> None:
        self.rubric = load_rubric(rubric)
        if not self.rubric.scored or self.rubric.checklist is not None:
            raise InputError(
                f"The local judge scores by the probabilities of numbers, and the rubric '{self.rubric.name}' asks "
                "otherwise - use --engine openai, or rules for rules alone."
            )
        found = find_whole_model(model, revision)
        self.name = _name(found, name)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_tokens = batch_tokens
        self.tokenizer = load_tokenizer(found)
        loaded = load_network(found, inference_dtype(self.device.type))
        self.model = loaded.to(self.device).eval()
        context = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30
        self._opening = _Opening((), None)
        self._picks_logits = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.continuations = [self._score_tokens(index) for index in range(len(self.rubric.scored))]
        longest = max(len(ids) for continuation in self.continuations for ids in continuation)
        self.room = context - (longest - 1)
        shortest = max(map(len, self._cuts(Context(), "", "", "")))
        if shortest > self.room:
            raise InputError(
                f"The judge model '{model}' reads {context} tokens, and the rubric '{self.rubric.name}' alone takes "
                f"{shortest} - choose a model with a longer context."
            )

    def run(self, questions: Sequence[Question], emit: Callable[[Verdict], None]) -> None:
        """Judge every question, handing each verdict to `emit` as soon as it is there, the shortest prompts first."""
        prompts = [self._fit(question) for question in questions]
        prompts.sort(key=lambda prompt: len(prompt.cuts[-1]))
        self._opening = self._read_opening(prompts) if len(prompts) > 1 else _Opening((), None)
        for batch in _batches(prompts, self.batch_tokens):
            for prompt, scored in zip(batch, self._distributions(batch), strict=True):
                emit(self._verdict(prompt, scored))

    def _verdict(self, prompt: _Prompt, distributions: list[dict[int, float]]) -> Verdict:
        scores = self.rubric.none_scores()
        mass: dict[str, float] = {}
        raw: dict[str, dict[str, float]] = {}
        for axis, distribution in zip(self.rubric.scored, distributions, strict=True):
            total = math.fsum(distribution.values())
            readable = math.isfinite(total) and total > 0
            expected = math.fsum(value * p for value, p in distribution.items()) / total if readable else None
            scores[axis.key] = None if expected is None else round(min(max(expected, axis.low), axis.high), 6)
            mass[axis.key] = float(f"{total:.6g}") if readable else 0.0
            raw[axis.key] = {str(value): float(f"{p:.6g}") if readable else 0.0 for value, p in distribution.items()}
        usage: dict[str, Any] = {"prompt_tokens": len(prompt.cuts[-1]), "mass": mass}
        if prompt.omitted:
            usage["omitted_characters"] = prompt.omitted
        status: Status = "ok" if all(scores[axis.key] is not None for axis in self.rubric.scored) else "parse_error"
        return verdict_of(self, prompt.question, Outcome(scores, status, self.name, canonical_json(raw), usage))

    def _encode(self, text: str) -> Ids:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # a tokenizer that ends every text would end the reply before its score
        return tuple(ids)

    def _cuts(self, context: Context, instruction: str, input: str, response: str, tools: str = "") -> tuple[Ids, ...]:
        prompt = self.rubric.prompt(instruction, input, response, context._replace(tools=tools))
        start = len(prompt) - len(self.rubric.reply_form)
        return tuple(self._encode(prompt[: start + end]) for end in self.rubric.cuts)

    def _score_tokens(self, axis: int) -> dict[Ids, int]:
        """Token ids of every way to write a score of the axis, with and without a space before it."""
        stem = self.rubric.reply_form[: self.rubric.cuts[axis]]
        stem_ids = self._encode(stem)
        tokens: dict[Ids, int] = {}
        for value in self.rubric.scored[axis].values:
            for written in (f" {value}", str(value)):
                ids = self._encode(stem + written)
                if ids[: len(stem_ids)] != stem_ids:  # the score melts into the label's last token
                    ids = (*stem_ids, *self.tokenizer(written, add_special_tokens=False)["input_ids"])
                tokens.setdefault(ids[len(stem_ids) :], value)
        return tokens

    def _fit(self, question: Question) -> _Prompt:
        """Tokenize, shortening the fields from their ends where the whole exceeds the model's context."""
        answer = question.generation
        names = [name for name in CUTTABLE if name != "tools" or (answer.tools and "tools" in self.rubric.shows)]
        fields = {name: getattr(answer, name) for name in names}
        context = Context.of(answer)
        cuts = self._cuts(context, **fields)
        omitted: dict[str, int] = {}
        while context.history and "history" in self.rubric.shows and max(map(len, cuts)) > self.room:
            omitted["history"] = omitted.get("history", 0) + sum(map(len, context.history[0]))
            context = context._replace(history=context.history[1:])
            cuts = self._cuts(context, **fields)
        for name in names:
            if max(map(len, cuts)) <= self.room:
                break
            text, keep, over = fields[name], 0, len(fields[name])
            while over - keep > 1:  # invariant: `keep` characters fit, or none do; `over` do not
                middle = (keep + over) // 2
                fits = max(map(len, self._cuts(context, **{**fields, name: text[:middle]}))) <= self.room
                keep, over = (middle, over) if fits else (keep, middle)
            fields[name] = text[:keep]
            omitted[name] = len(text) - keep
            cuts = self._cuts(context, **fields)
        return _Prompt(question, cuts, omitted)

    def _distributions(self, batch: Sequence[_Prompt]) -> list[list[dict[int, float]]]:
        """For each prompt and axis, the probability of each allowed value."""
        passes = [one for index, prompt in enumerate(batch) for one in self._passes(index, prompt.cuts)]
        logits: list[dict[Ids, torch.Tensor]] = [{} for _ in batch]
        for group in _grouped(passes, self.batch_tokens):
            for one, rows in zip(group, self._forward(group), strict=True):
                for length, row in zip(one.lengths, rows, strict=True):
                    logits[one.prompt][one.ids[:length]] = row
        return [
            [
                _value_probabilities(cut, continuation, logits[index])
                for cut, continuation in zip(prompt.cuts, self.continuations, strict=True)
            ]
            for index, prompt in enumerate(batch)
        ]

    def _passes(self, index: int, cuts: Sequence[Ids]) -> Iterator[_Pass]:
        """The fewest sequences that hold every prefix whose next token matters.

        The cuts of one prompt are prefixes of one another as texts. Where their token ids are so too, one pass serves
        all axes; a cut whose last token comes out differently gets a pass of its own.
        """
        wanted = {
            (*cut, *ids[:length])
            for cut, continuation in zip(cuts, self.continuations, strict=True)
            for ids in continuation
            for length in range(len(ids))
        }
        held: list[tuple[Ids, list[int]]] = []
        for ids in sorted(wanted, key=len, reverse=True):
            for whole, lengths in held:
                if whole[: len(ids)] == ids:
                    lengths.append(len(ids))
                    break
            else:
                held.append((ids, [len(ids)]))
        for whole, lengths in held:
            yield _Pass(index, whole, tuple(lengths))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _read_opening(self, prompts: Sequence[_Prompt]) -> _Opening:
        """Run the tokens that all prompts begin with, the rubric's own, once for all."""
        shared: Ids = _common_beginning([prompt.cuts[0][:-1] for prompt in prompts])
        if not shared:
            return _Opening((), None)
        output = self.model(torch.tensor([shared], device=self.device), use_cache=True)
        cache = getattr(output, "past_key_values", None)
        plain = isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)
        return _Opening(shared, cache) if plain else _Opening((), None)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _forward(self, group: Sequence[_Pass]) -> list[torch.Tensor]:
        """Log-probabilities after each wanted prefix: one tensor [prefixes, vocabulary] a pass. Padded on the right."""
        known = len(self._opening.ids)
        width = max(len(one.ids) for one in group)
        ids = torch.zeros(len(group), width - known, dtype=torch.long)
        mask = torch.zeros(len(group), width, dtype=torch.long)
        for row, one in enumerate(group):
            assert one.ids[:known] == self._opening.ids
            ids[row, : len(one.ids) - known] = torch.tensor(one.ids[known:])
            mask[row, : len(one.ids)] = 1
        positions = sorted({length - 1 - known for one in group for length in one.lengths})
        options: dict[str, Any] = {"use_cache": False}
        if self._picks_logits:
            options["logits_to_keep"] = torch.tensor(positions, device=self.device)
        if self._opening.cache is not None:
            cache = copy.deepcopy(self._opening.cache)
            cache.batch_repeat_interleave(len(group))
            options.update(past_key_values=cache, use_cache=True)
        output = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device), **options).logits
        place = {position: index if self._picks_logits else position for index, position in enumerate(positions)}
        return [
            torch.log_softmax(output[row, [place[length - 1 - known] for length in one.lengths]].float(), dim=-1).cpu()
            for row, one in enumerate(group)
        ]


def _value_probabilities(cut: Ids, continuation: dict[Ids, int], logits: dict[Ids, torch.Tensor]) -> dict[int, float]:
    """Probability of each value: the sum over the ways to write it.

    Where one way begins another (`1` and `10` in digits), the longer one's share is taken from the shorter one.
    """
    written: dict[Ids, float] = {}
    for ids in continuation:
        logarithm = sum(float(logits[(*cut, *ids[:place])][token]) for place, token in enumerate(ids))
        written[ids] = math.exp(logarithm)
    values: dict[int, float] = {}
    for ids, value in continuation.items():
        longer = [other for other in continuation if len(other) > len(ids) and other[: len(ids)] == ids]
        alone = written[ids] - math.fsum(written[other] for other in longer)
        values[value] = values.get(value, 0.0) + max(alone, 0.0)
    return values


def _common_beginning(sequences: Sequence[Ids]) -> Ids:
    first, last = min(sequences), max(sequences)  # what these two share in lexical order, all share
    differs = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differs, min(len(first), len(last)))]


def _batches(prompts: Sequence[_Prompt], tokens: int) -> Iterator[list[_Prompt]]:
    batch: list[_Prompt] = []
    for prompt in prompts:
        if batch and len(prompt.cuts[-1]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


def _grouped(passes: Sequence[_Pass], tokens: int) -> Iterator[list[_Pass]]:
    group: list[_Pass] = []
    for one in sorted(passes, key=lambda one: len(one.ids)):
        if group and len(one.ids) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
