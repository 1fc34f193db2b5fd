"""Which model of which service is asked, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from kollm.core.errors import InputError
from kollm.services.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ChatService:
    """One model of one OpenAI-compatible service.

    Attributes:
        model: name of the model, as the service calls it.
        base_url: the service; by default `$OPENAI_BASE_URL`, else OpenAI.
        key_env: variable with the service's key, if not the host's own (see `kollm.services.endpoint`).
        price: USD for a million tokens in and out, where the table of models has no price or another one.
        max_cost: cap in USD on what its requests cost, earlier runs' share and sends without an answer included.
        concurrency: requests under way at once.
        timeout: seconds that one request may take.
        retry: how often and how long a request that got no answer is sent again.
        server: where the requests go, where several servers of one's own stand for `base_url`, by which the ledger knows them.
        key: for a program that serves several people, each with a key of their own. Kept nowhere.

    Raises:
        InputError: a price below zero.
    """

    model: str
    base_url: str | None = None
    key_env: str | None = None
    price: tuple[float, float] | None = None
    max_cost: float | None = None
    concurrency: int = 32
    timeout: float = 180.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    server: str | None = None
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.price is not None and not all(0 <= dollars < math.inf for dollars in self.price):
            raise InputError(
                f"The price is {self.price[0]} and {self.price[1]} - give zero or more USD for a million tokens."
            )

    @classmethod
    def of_options(cls, model: str, options: dict[str, Any]) -> ChatService:
        """The service that a command's options name; it takes its own out of them, and leaves those not given."""
        own = {
            name: options.pop(name)
            for name in ("base_url", "key_env", "price", "max_cost", "concurrency")
            if name in options
        }
        return cls(model, **{name: value for name, value in own.items() if value is not None})
