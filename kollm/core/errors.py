"""Errors that a user can act on.

Every message says what is wrong, the value that was received, and what to do. The command line prints the message
alone and leaves with exit code 1; a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import difflib
import errno
import re
import traceback
from collections.abc import Iterable
from pathlib import Path


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


ISSUES = "https://github.com/kollm/kollm/issues"


def one_line(error: BaseException) -> str:
    """What a command says of an error that ends it: one line, whatever the error is.

    A KollmError is a sentence already. What the machine refuses is said with the path. Anything else is a fault of kollm's
    own, and the line says so and where to report it.
    """
    if isinstance(error, KollmError):
        return str(error)
    if (full := disk_sentence(error)) is not None:
        return full
    if isinstance(error, OSError):
        return os_sentence(error) if error.errno is not None else " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        from kollm.core.extras import extra_with

        if (found := extra_with(error.name or "")) is not None:
            return str(MissingExtraError(*found))
    if isinstance(error, MemoryError):
        return "The memory of this machine is full - close other programs, or use a smaller input or batch; what was finished is kept."
    place = next(
        (frame for frame in reversed(traceback.extract_tb(error.__traceback__)) if "kollm" in frame.filename), None
    )
    where = f" at {Path(place.filename).name}:{place.lineno}" if place else ""
    reason = " ".join(str(error).split())[:200]
    return (
        f"This is a bug in kollm ({type(error).__name__}{where}: {reason}) - please report it at {ISSUES} with what "
        "`kollm --debug ...` shows; what was finished is kept."
    )


def disk_sentence(error: BaseException | None, path: object = None) -> str | None:
    """What to say where a disk took no more, whichever library met it; None for another error.

    Args:
        error: what was raised.
        path: what was being written.
    """
    if error is None or isinstance(error, KollmError):
        return None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return os_sentence(error, path)
    found = _FULL.search(str(error))
    if found is None:
        return None
    what = f"'{path}'" if path is not None else "A file"
    return f"{what} cannot be written ({found[0]}) - {_WHAT_TO_DO[errno.ENOSPC]}."


_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full", re.IGNORECASE
)
"""How libraries that raise errors of their own (safetensors, SQLite) spell a full disk."""


def os_sentence(error: OSError, path: object = None) -> str:
    """What the machine objects to, as a sentence with the path and what to do."""
    where = error.filename if error.filename is not None else path
    what = f"'{where}'" if where is not None else "A file or a connection"
    reason = error.strerror or str(error)
    return f"{what} cannot be used ({reason}) - {_WHAT_TO_DO.get(error.errno or 0, 'mend that and run the same command again')}."


_WHAT_TO_DO = {
    errno.ENOSPC: "make room on that disk and run the same command again; what was finished is kept",
    errno.EDQUOT: "your quota is used up: make room and run the same command again; what was finished is kept",
    errno.EROFS: "the disk takes no writing: choose another place",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EIO: "the disk has a fault: choose another place",
    errno.EFBIG: "the disk takes no file of that size: choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` - did you mean 'x'?` for the known word that is closest; empty where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" - did you mean '{close[0]}'?" if close else ""
