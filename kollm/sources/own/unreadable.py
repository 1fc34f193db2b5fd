"""What a row raises that cannot be used."""

from __future__ import annotations


class UnreadableError(Exception):
    """A row that cannot be used; its text is the reason."""
