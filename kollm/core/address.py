"""Addresses of services: one that holds a password is refused before anything could store or print it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from kollm.core.errors import InputError

_HOST = re.compile(r"[\w.:-]+")
"""Letters of any script and digits: what else stands in a host is read by each library in its own way."""


def check_address(address: str, what: str = "The service's address") -> str:
    """A service's address without its last slash.

    Args:
        address: e.g. `https://api.openai.com/v1`.
        what: what the message calls it.

    Raises:
        InputError: no http address, or one with a user, password or query in it.
    """
    shown = without_password(address)
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{what} '{shown}' is no address - write https://HOST/v1.") from error
    odd = any(character.isspace() or not character.isprintable() for character in address.strip())
    if parts.scheme not in ("http", "https") or not host or odd or not _HOST.fullmatch(host):
        raise InputError(f"{what} '{shown}' is no address - write https://HOST/v1.")
    if "@" in parts.netloc:
        raise InputError(
            f"{what} '{shown}' holds a user or password, which would be kept with the results - take it out; keys come from "
            "environment variables (see --key-env)."
        )
    if "?" in address or "#" in address:
        raise InputError(f"{what} '{shown}' holds more than a path - leave out what follows '?' or '#'.")
    return address.strip().rstrip("/")


def without_password(address: str) -> str:
    """The address as it may be printed: without user, password and query."""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return "..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def origin(address: str) -> str:
    """Scheme, host and port of an address, as `https://host` or `http://host:8000`."""
    parts = urlsplit(address)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    host = (parts.hostname or "").rstrip(".")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
