"""Errors that a user can act on.

Every message says what is wrong, the value that was received, and what to do. The command line prints the message
alone and leaves with exit code 1; a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KollmError(Exception):
    """A mistake or a condition that the user can mend; the message is one clear sentence."""


class InputError(KollmError):
    """A file, a row or an option that cannot be used as given."""


class RecipeError(KollmError):
    """A recipe with an unknown key, a value of the wrong type, or settings that exclude each other."""


class MissingExtraError(KollmError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"The package '{package}' is not installed - install it with: pip install 'kollm[{extra}]'.")


class MissingKeyError(KollmError):
    """An environment variable that holds a key is not set."""

    def __init__(self, variable: str, service: str) -> None:
        super().__init__(
            f"{service} needs a key, and {variable} is not set - set it in the environment: export {variable}=..."
        )


class ServiceError(KollmError):
    """A service answered in a way that no retry mends (wrong key, refused request)."""


class QuotaError(ServiceError):
    """A service's quota, or the cap that the user set, leaves no room for the next request."""


class StateError(KollmError):
    """A work folder, ledger or checkpoint that does not fit what it is asked to continue."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` - did you mean 'x'?` for the known word that is closest; empty where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" - did you mean '{close[0]}'?" if close else ""
