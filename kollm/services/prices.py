"""Facts on chat models: what they cost, and which parameters they accept. The table is `models.yaml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Literal

import yaml

from kollm.core.errors import InputError
from kollm.core.resources import PACKAGE

DEFAULT_MODEL = "gpt-5.5-2026-04-23"
"""A dated snapshot without an announced shutdown."""
BATCH_DISCOUNT = 0.5
"""The Batch API's price beside the immediate one's."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One row of the table.

    Attributes:
        pattern: shell-style pattern of the model's name.
        input: USD for a million prompt tokens; None where no price is known.
        output: USD for a million tokens of answer, reasoning included; None where no price is known.
        sampling: whether temperature, top_p, seed and logprobs are accepted.
        limit: name of the parameter that caps the answer's tokens.
        shutdown: announced end of service.
        reasoning: tokens that the model may spend on thinking before its reply, which count as its answer.
    """

    pattern: str = "*"
    input: float | None = None
    output: float | None = None
    sampling: Literal["always", "no reasoning", "never"] = "always"
    limit: str = "max_tokens"
    shutdown: date | None = None
    reasoning: int = 0

    @property
    def priced(self) -> bool:
        return self.input is not None and self.output is not None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD; 0 where no price is known."""
        return ((self.input or 0.0) * prompt_tokens + (self.output or 0.0) * completion_tokens) / 1e6

    def discounted(self, factor: float) -> ModelFacts:
        """The same model at a share of its price."""
        if self.input is None or self.output is None:
            return self
        return replace(self, input=self.input * factor, output=self.output * factor)

    def options(
        self, *, max_tokens: int, logprobs: int = 0, thinks: bool = False, **sampling: float | int
    ) -> dict[str, Any]:
        """Request options that the model accepts.

        Args:
            max_tokens: cap on the answer's tokens.
            logprobs: how many alternatives a token; 0 for none.
            thinks: whether a model that could be kept from it is let think first.
            sampling: temperature, top_p, seed; left out where the model takes none.

        Raises:
            InputError: log-probabilities of a model that gives none.
        """
        options: dict[str, Any] = {self.limit: max_tokens}
        if self.sampling == "never" or (thinks and self.sampling == "no reasoning"):
            if logprobs:
                raise InputError(
                    f"Models like '{self.pattern}' give no log-probabilities - use --mode text or structured."
                )
            return options
        options.update(sampling)
        if self.sampling == "no reasoning":
            options["reasoning_effort"] = "none"
        if logprobs:
            options.update(logprobs=True, top_logprobs=logprobs)
        return options


def model_facts(model: str, price: tuple[float, float] | None = None) -> ModelFacts:
    """What the table says of a model; `price` (USD for a million tokens in and out) overrides its prices."""
    facts = next((facts for facts in _table() if fnmatchcase(model, facts.pattern)), ModelFacts())
    return facts if price is None else replace(facts, input=price[0], output=price[1])


@functools.cache
def _table() -> tuple[ModelFacts, ...]:
    rows = yaml.safe_load((PACKAGE / "services" / "prices.yaml").read_text(encoding="utf-8"))
    return tuple(ModelFacts(**row) for row in rows)
