"""The ledger: what was bought from paid services, kept for ever, so that nothing answered is paid for twice."""

from kollm.services.ledger.connection import default_path
from kollm.services.ledger.store import Change, Entry, Ledger
from kollm.services.purchase import Answer, Charge, Expense, InFlight, Order, Purchase, Stats

__all__ = [
    "Answer",
    "Change",
    "Charge",
    "Entry",
    "Expense",
    "InFlight",
    "Ledger",
    "Order",
    "Purchase",
    "Stats",
    "default_path",
]
