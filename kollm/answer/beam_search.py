"""Beam search for a batch of prompts: the answers of transformers' `generate`, for less work.

transformers 5.23 repeats a prompt for each of its beams, copies every beam's keys and values when beams change places,
and keeps a row in the batch until the last row has ended. Here the beams of a prompt share one row: a step adds one token
of each beam to it, and a mask lets that token see the prompt and the tokens that its own beam descends from. So the
prompt is read once for all beams, a beam that takes another's place changes the mask alone, tokens that no beam descends
from any more are dropped now and then, and a row leaves when its search has ended.

Serving engines don't replace it: vLLM 0.33's beam search knows no repetition penalty and no stop strings, SGLang has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ARCHITECTURES = ("gpt_neox", "llama", "mistral")
"""Model types that take masks of four dimensions and positions as given, tested against transformers' own search."""

SWEEP = 16
"""Steps from one sweep to the next of tokens that no beam descends from."""

NEVER = -1e9
"""Added to the score of what must not be chosen; transformers' value, so that ties stay ties."""

HARMLESS = {
    *("do_sample", "temperature", "top_k", "top_p", "max_length", "max_new_tokens"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "transformers_version", "_from_model_config"),
    *("output_attentions", "output_hidden_states", "output_logits", "output_scores", "return_dict_in_generate"),
}
"""What a model's own generation config may name and still decode by this rule; `generate` heeds the rest."""


def supports_beam_search(network: Any) -> bool:
    """Whether `beam_search` decodes with this model or PEFT model as transformers would."""
    config = network.config
    return (
        config.model_type in ARCHITECTURES
        and config._attn_implementation == "sdpa"
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)  # none forgets
        and not any(adapter.is_prompt_learning for adapter in getattr(network, "peft_config", {}).values())
        and HARMLESS.issuperset(network.generation_config.to_diff_dict())
    )


class BeamSettings(NamedTuple):
    """What a search is told.

    Attributes:
        beams: continuations that each row follows at a time.
        max_new_tokens: length limit of a continuation.
        repetition_penalty: factor on the log-probability of tokens in the prompt, padding aside, or the continuation.
        eos: the token that ends a continuation.
    """

    beams: int
    max_new_tokens: int
    repetition_penalty: float
    eos: int


def beam_search(
    network: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    settings: BeamSettings,
) -> torch.Tensor:
    """The best continuation of each prompt, by the rule of `generate(num_beams=beams, do_sample=False)`.

    Args:
        network: a causal language model for which `supports_beam_search` holds.
        input_ids: (rows, tokens), padded on the left.
        attention_mask: (rows, tokens), 0 at padding.
        settings: beams, length, penalty and end token.

    Returns:
        (rows, max_new_tokens) token ids; what follows an EOS token means nothing.
    """
    (rows, prompt), beams = input_ids.shape, settings.beams
    real = attention_mask.bool()
    lengths = real.sum(dim=1)
    cache = _TreeCache(network.config, room=beams * SWEEP)
    logits = network(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    # Padding counts as the prompt's last token, for which the penalty is the same once and twice.
    said = torch.where(real, input_ids, input_ids[:, -1:])
    search = _Search.start(rows, settings, input_ids.device)
    seen = real[:, None].expand(-1, beams, -1)  # (rows, beams, tokens in the cache)
    own = torch.eye(beams, dtype=torch.bool, device=input_ids.device)
    places = torch.arange(rows, device=input_ids.device)  # of the rows still searched among all
    answers = input_ids.new_zeros(rows, settings.max_new_tokens)
    while True:
        parents, tokens = search.advance(logits.expand(-1, beams, -1), said, settings.repetition_penalty)
        going = search.going()
        left = int(going.sum())  # the one wait for a GPU in most steps
        if left < len(places):
            answers[places] = search.best
            if not left:
                return answers
            rows_kept = _closed_up(going, left)
            search.keep(rows_kept)
            cache.keep(rows_kept)
            said, seen, lengths, places, parents, tokens = (
                state[rows_kept] for state in (said, seen, lengths, places, parents, tokens)
            )
        seen = _pick(seen, parents)
        if search.length % SWEEP == 0:
            seen = cache.sweep(seen, prompt)
        seen = torch.cat((seen, own.expand(left, -1, -1)), dim=-1)
        logits = network(
            input_ids=tokens,
            attention_mask=seen[:, None],
            position_ids=(lengths + search.length - 1)[:, None].expand(-1, beams),
            past_key_values=cache,
            use_cache=True,
        ).logits


@dataclass(slots=True)
class _Search:
    """What the rows still searched have found so far.

    Attributes:
        tokens: (rows, beams, limit) ids of the continuations that go on, the first `length` of them set.
        scores: (rows, beams) sums of their log-probabilities, best first.
        best: (rows, limit) ids of the best continuation that has ended.
        ended: (rows, beams) mean log-probabilities of the best that have ended, best first.
        eos: the token that ends a continuation.
        length: tokens of every continuation that goes on.
    """

    tokens: torch.Tensor
    scores: torch.Tensor
    best: torch.Tensor
    ended: torch.Tensor
    eos: int
    length: int = 0

    @classmethod
    def start(cls, rows: int, settings: BeamSettings, device: torch.device) -> _Search:
        beams = settings.beams
        scores = torch.zeros(rows, beams, device=device)
        scores[:, 1:] = NEVER  # all beams are the bare prompt: the first stands for them
        tokens = torch.zeros(rows, beams, settings.max_new_tokens, dtype=torch.long, device=device)
        return cls(tokens, scores, tokens[:, 0].clone(), torch.full_like(scores, NEVER), settings.eos)

    def advance(self, logits: torch.Tensor, prompt: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue by one token.

        Args:
            logits: (rows, beams, vocabulary).
            prompt: (rows, tokens) ids that the penalty counts beside the continuation's own.
            penalty: factor on the log-probability of a token already said.

        Returns:
            Of each continuation that goes on, (rows, beams): the place of the beam that it continues, and its last token.
        """
        rows, beams, vocabulary = logits.shape
        scores = logits.float().log_softmax(dim=-1)
        said = torch.cat((prompt[:, None].expand(-1, beams, -1), self.tokens[..., : self.length]), dim=-1)
        repeated = scores.gather(2, said)
        scores.scatter_(2, said, torch.where(repeated < 0, repeated * penalty, repeated / penalty))
        scores += self.scores[..., None]
        scores, index = scores.view(rows, -1).topk(2 * beams)  # of which at most one a beam ends: enough go on
        parents, last = index // vocabulary, index % vocabulary
        tokens = _pick(self.tokens, parents)
        tokens[..., self.length] = last
        self.length += 1
        ends = last == self.eos
        if self.length == tokens.shape[-1]:
            ends = torch.ones_like(ends)
        self._end(tokens[:, :beams], scores[:, :beams], ends[:, :beams])
        self.scores, onward = (scores + ends * NEVER).topk(beams)
        self.tokens = _pick(tokens, onward)
        return parents.gather(1, onward), last.gather(1, onward)

    def _end(self, tokens: torch.Tensor, scores: torch.Tensor, ends: torch.Tensor) -> None:
        """Rank those of a step's best `beams` that end among those that ended before."""
        beams = scores.shape[1]
        self.ended, index = torch.cat((self.ended, scores / self.length + ~ends * NEVER), dim=1).topk(beams)
        first = index[:, :1] - beams
        self.best = torch.where(first >= 0, _pick(tokens, first.clamp(min=0))[:, 0], self.best)

    def going(self) -> torch.Tensor:
        """(rows,) whether to search on: the best mean so far beats the worst of `beams` that have ended."""
        if self.length == self.tokens.shape[-1]:
            return torch.zeros_like(self.scores[:, 0], dtype=torch.bool)
        return self.scores[:, 0] / self.length > self.ended[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        self.tokens, self.scores = self.tokens[rows], self.scores[rows]
        self.best, self.ended = self.best[rows], self.ended[rows]


class _TreeLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, of shape (rows, heads, tokens, head size), in buffers that grow by `room` tokens."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all so far, as views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [states[:, :, :0] for states in (key_states, value_states)]
        before = self.get_seq_length()
        end = before + key_states.shape[-2]
        for place, states in enumerate((key_states, value_states)):
            if end > self._buffers[place].shape[-2]:
                larger = states.new_empty(*states.shape[:-2], end + self._room, states.shape[-1])
                larger[:, :, :before] = self._buffers[place][:, :, :before]
                self._buffers[place] = larger
            self._buffers[place][:, :, before:end] = states
        self._show(end)
        return self.keys, self.values

    def keep(self, gaps: torch.Tensor, fillers: torch.Tensor, left: int) -> None:
        """Move the rows `fillers` into `gaps`, and keep the first `left`."""
        length = self.get_seq_length()
        for place, buffer in enumerate(self._buffers):
            buffer[gaps, :, :length] = buffer[fillers, :, :length]
            self._buffers[place] = buffer[:left]
        self._show(length)

    def take(self, kept: torch.Tensor, prompt: int) -> None:
        """Keep the prompt, and of the tokens after it those at `kept`, (rows, tokens) counted from the prompt's end."""
        end = prompt + kept.shape[1]
        for buffer in self._buffers:
            index = kept[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            buffer[:, :, prompt:end] = buffer[:, :, prompt:].gather(2, index)
        self._show(end)

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class _TreeCache(Cache):  # type: ignore[misc]
    """The layers of a model; they lose the same rows and tokens."""

    def __init__(self, config: Any, room: int) -> None:
        super().__init__(layers=[_TreeLayer(room) for _ in DynamicCache(config=config).layers])

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone, in the order of `_closed_up`."""
        gaps = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for layer in self.layers:
            layer.keep(gaps, rows[gaps], len(rows))

    def sweep(self, seen: torch.Tensor, prompt: int) -> torch.Tensor:
        """Drop tokens after the prompt that no beam descends from.

        Args:
            seen: (rows, beams, tokens) whether a beam descends from a token.
            prompt: tokens of the prompt, padding included.

        Returns:
            `seen` of the tokens left. Rows with fewer than others keep some that no beam sees.
        """
        alive = seen[..., prompt:].any(dim=1)
        most = int(alive.sum(dim=1).max())
        kept = (~alive).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        for layer in self.layers:
            layer.take(kept, prompt)
        left = seen[..., prompt:].gather(2, kept[:, None].expand(-1, seen.shape[1], -1))
        return torch.cat((seen[..., :prompt], left), dim=-1)


def _pick(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(rows, beams, tokens) at (rows, picks) -> (rows, picks, tokens)."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))


def _closed_up(going: torch.Tensor, left: int) -> torch.Tensor:
    """(left,) the rows that go on: those among the first `left` in their places, the others in the gaps between."""
    rows = torch.arange(left, device=going.device)
    rows[~going[:left]] = going[left:].nonzero()[:, 0] + left
    return rows
