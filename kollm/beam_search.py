"""Beam search for a batch of prompts: the answers of transformers' own, of less work.

transformers 5.23 repeats a prompt for every beam, copies every beam's keys and values when the beams change places, and
keeps a row in the batch until the last row ends. Here a prompt's beams are tokens of one row: a step feeds one token of
each beam, and a mask lets it see the prompt and the tokens that its beam descends from. So the prompt's keys are read once
for all beams, a beam that continues another's changes the mask alone, and tokens that no beam descends from any more are
dropped now and then. A row leaves when its search has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ARCHITECTURES = ("gpt_neox", "llama", "mistral")
"""Model types whose attention takes a mask of four dimensions and positions as given; tested against transformers'."""

SWEEP = 16
"""Steps between two sweeps of the tokens that no beam descends from."""

NEVER = -1e9
"""The score of what must not be chosen; transformers' own value, so that sums with it round alike."""


def supports(network: Any) -> bool:
    """Whether `beam_search` can decode with this model or PEFT model."""
    config = network.config
    if config.model_type not in ARCHITECTURES or config._attn_implementation not in ("sdpa", "eager"):
        return False
    if any(adapter.is_prompt_learning for adapter in getattr(network, "peft_config", {}).values()):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def beam_search(
    network: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    beams: int,
    max_new_tokens: int,
    repetition_penalty: float,
    eos: int | None,
) -> torch.Tensor:
    """The best continuation of each prompt, as `generate(num_beams=beams, do_sample=False)` finds it.

    Args:
        network: a causal language model for which `supports` holds.
        input_ids: (rows, tokens), padded on the left.
        attention_mask: (rows, tokens), 0 at padding.
        beams: hypotheses that each row keeps.
        max_new_tokens: length limit of a continuation.
        repetition_penalty: factor on the log-probability of tokens of the prompt, padding aside, and the continuation.
        eos: token that ends a continuation; None if the limit alone does.

    Returns:
        (rows, max_new_tokens) token ids; what follows the EOS token has no meaning.
    """
    rows, prompt = input_ids.shape
    real = attention_mask.bool()
    cache = _cache(network.config, beams * (max_new_tokens - 1))
    logits = network(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    # Padding counts as a token of its row's prompt: a repeated index changes nothing.
    said = torch.where(real, input_ids, input_ids[:, -1:])
    search = _Search.start(rows, beams, max_new_tokens, eos, input_ids.device)
    visible = real[:, None].expand(rows, beams, prompt)
    lengths = real.sum(dim=1)
    order = torch.arange(rows, device=input_ids.device)
    own = torch.eye(beams, dtype=torch.bool, device=input_ids.device)
    answers = input_ids.new_zeros(rows, max_new_tokens)
    step = 0
    while True:
        parents, tokens = search.advance(logits.expand(-1, beams, -1), said, repetition_penalty)
        step += 1
        open_rows = search.open()
        left = int(open_rows.sum())  # the one wait for a GPU in a step
        if left < len(order) or step == max_new_tokens:
            answers[order] = search.best
            if not left or step == max_new_tokens:
                return answers
            keep = _compact(open_rows, left)
            cache_keep(cache, keep)
            search.keep(keep)
            said, visible, lengths, order, parents, tokens = (
                state[keep] for state in (said, visible, lengths, order, parents, tokens)
            )
        visible = visible.gather(1, parents[..., None].expand(-1, -1, visible.shape[-1]))
        if step % SWEEP == 0:
            visible = _sweep(cache, visible, prompt)
        visible = torch.cat((visible, own.expand(left, beams, beams)), dim=-1)
        logits = network(
            input_ids=tokens,
            attention_mask=visible[:, None],
            position_ids=(lengths + step - 1)[:, None].expand(left, beams),
            past_key_values=cache,
            use_cache=True,
        ).logits


@dataclass(slots=True)
class _Search:
    """What the rows still searched have found so far.

    Attributes:
        tokens: (rows, beams, limit) continuations that go on, of which `length` tokens are set.
        scores: (rows, beams) sums of their log-probabilities, best first.
        best: (rows, limit) the best continuation that has ended.
        ended: (rows, beams) scores a token of those that have ended, best first.
    """

    tokens: torch.Tensor
    scores: torch.Tensor
    best: torch.Tensor
    ended: torch.Tensor
    eos: int | None
    length: int = 0

    @classmethod
    def start(cls, rows: int, beams: int, limit: int, eos: int | None, device: torch.device) -> _Search:
        scores = torch.zeros(rows, beams, device=device)
        scores[:, 1:] = NEVER  # all beams are the prompt yet: one stands for them
        return cls(
            tokens=torch.zeros(rows, beams, limit, dtype=torch.long, device=device),
            scores=scores,
            best=torch.zeros(rows, limit, dtype=torch.long, device=device),
            ended=torch.full((rows, beams), NEVER, device=device),
            eos=eos,
        )

    def advance(self, logits: torch.Tensor, prompt: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue by one token.

        Args:
            logits: (rows, beams, vocabulary).
            prompt: (rows, tokens) ids that the penalty counts beside the continuation's.
            penalty: factor on the log-probability of a token already said.

        Returns:
            For each of the (rows, beams) continuations, the beam that it continues and its last token.
        """
        rows, beams, vocabulary = logits.shape
        scores = logits.float().log_softmax(dim=-1)
        said = torch.cat((prompt[:, None].expand(-1, beams, -1), self.tokens[..., : self.length]), dim=-1)
        repeated = scores.gather(2, said)
        scores.scatter_(2, said, torch.where(repeated < 0, repeated * penalty, repeated / penalty))
        scores += self.scores[..., None]
        # Twice the beams, so that enough go on where the best all end.
        scores, index = scores.view(rows, -1).topk(2 * beams)
        parents, last = index // vocabulary, index % vocabulary
        tokens = _pick(self.tokens, parents)
        tokens[..., self.length] = last
        self.length += 1
        if self.length == tokens.shape[-1]:
            ends = torch.ones_like(last, dtype=torch.bool)
        else:
            ends = last == (-1 if self.eos is None else self.eos)
        self._end(tokens[:, :beams], scores[:, :beams], ends[:, :beams])
        self.scores, going = (scores + ends * NEVER).topk(beams)
        self.tokens = _pick(tokens, going)
        return parents.gather(1, going), last.gather(1, going)

    def _end(self, tokens: torch.Tensor, scores: torch.Tensor, ends: torch.Tensor) -> None:
        """Keep the best that have ended; only one among a step's best `beams` counts."""
        beams = scores.shape[1]
        self.ended, index = torch.cat((self.ended, scores / self.length + ~ends * NEVER), dim=1).topk(beams)
        newest = (index[:, :1] - beams).clamp(min=0)
        better = index[:, :1] >= beams
        self.best = torch.where(better, _pick(tokens, newest)[:, 0], self.best)

    def open(self) -> torch.Tensor:
        """(rows,) whether a continuation may still beat the worst that has ended, going by its score a token so far."""
        return self.scores[:, 0] / self.length > self.ended[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        self.tokens, self.scores, self.best, self.ended = (
            state[rows] for state in (self.tokens, self.scores, self.best, self.ended)
        )


def _pick(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(rows, beams, tokens), (rows, picks) -> (rows, picks, tokens)."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))


def _compact(open_rows: torch.Tensor, left: int) -> torch.Tensor:
    """(left,) the open rows, so ordered that the last fill the gaps and the others stay where they are."""
    keep = torch.arange(left, device=open_rows.device)
    keep[~open_rows[:left]] = open_rows[left:].nonzero()[:, 0] + left
    return keep


class _TreeLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, of shape (rows, heads, tokens, head size), in buffers made once.

    Args:
        room: tokens that may follow the prompt, over all beams; the first update is the prompt.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all so far, as views of the buffers."""
        tokens, before = key_states.shape[-2], self.get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:-2], tokens + self._room, key_states.shape[-1])
            self._keys, self._values = key_states.new_empty(shape), value_states.new_empty(shape)
        self._keys[:, :, before : before + tokens] = key_states
        self._values[:, :, before : before + tokens] = value_states
        self._show(before + tokens)
        return self.keys, self.values

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone; `rows` comes from `_compact`."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        length = self.get_seq_length()
        for buffer in (self._keys, self._values):
            buffer[moved, :, :length] = buffer[rows[moved], :, :length]
        self._keys, self._values = self._keys[: len(rows)], self._values[: len(rows)]
        self._show(length)

    def sweep(self, slots: torch.Tensor, prompt: int) -> None:
        """Keep the prompt and, of the tokens after it, `slots`: (rows, tokens kept) counted from the prompt's end."""
        for buffer in (self._keys, self._values):
            index = slots[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            buffer[:, :, prompt : prompt + slots.shape[1]] = buffer[:, :, prompt:].gather(2, index)
        self._show(prompt + slots.shape[1])

    def _show(self, length: int) -> None:
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]


def _cache(config: Any, room: int) -> Cache:
    return Cache(layers=[_TreeLayer(room) for _ in range(config.num_hidden_layers)])


def cache_keep(cache: Cache, rows: torch.Tensor) -> None:
    for layer in cache.layers:
        layer.keep(rows)


def _sweep(cache: Cache, visible: torch.Tensor, prompt: int) -> torch.Tensor:
    """Drop the tokens that no beam descends from; returns what each beam sees of those left."""
    seen = visible[:, :, prompt:]
    alive = seen.any(dim=1)
    most = int(alive.sum(dim=1).max())
    slots = (~alive).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    for layer in cache.layers:
        layer.sweep(slots, prompt)
    kept = seen.gather(2, slots[:, None].expand(-1, seen.shape[1], -1))
    return torch.cat((visible[:, :, :prompt], kept), dim=-1)
