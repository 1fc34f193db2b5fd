"""A cap on cost that is kept before it is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kollm.core.errors import QuotaError
from kollm.services.ledger import Answer, Ledger


class CostCap:
    """A cap in USD on what one client's requests cost, and what they cost so far.

    Earlier runs' share of the same requests counts, and so does what was sent without an answer.

    Args:
        cap: USD; None for no cap.
    """

    def __init__(self, cap: float | None) -> None:
        self._cap, self._reserved, self.spent = cap, 0.0, 0.0
        self._counted: set[str] = set()

    def add_earlier(self, keys: Iterable[str], answered: Mapping[str, Answer], ledger: Ledger) -> None:
        """Count what was paid for these purchases, or may have been, before this run; each key counts once."""
        new = [key for key in keys if key not in self._counted]
        self._counted.update(new)
        self.spent += sum(answered[key].cost for key in new if key in answered) + ledger.lost(new).cost

    def reserve(self, cost: float) -> bool:
        """Reserve room for one request; False where requests under way may leave room for it.

        Raises:
            QuotaError: they cannot.
        """
        if self._cap is not None and self.spent + cost > self._cap:
            raise QuotaError(
                f"Stopped before the cap of USD {self._cap:.4g}: USD {self.spent:.4f} is spent, and the next request may cost "
                f"USD {cost:.4f} - raise --max-cost and run the same command again; what was answered is kept."
            )
        if self._cap is not None and self.spent + self._reserved + cost > self._cap:
            return False
        self._reserved += cost
        return True

    def settle(self, cost: float) -> None:
        """A request was answered at this cost."""
        self.spent += cost

    def release(self, reserved: float, charged: bool) -> None:
        """A request has ended; `charged` where it got no answer and may have been charged all the same."""
        self._reserved -= reserved
        if charged:
            self.spent += reserved
