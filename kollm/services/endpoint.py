"""Where a service is asked, and whose key goes there: a key belongs to a host, and to no other.

OPENAI_API_KEY goes to OpenAI, and to the address in OPENAI_BASE_URL, which whoever sets it in the environment has chosen.
Any other host gets the key of its own variable, or of the one that a user names; a recipe names none.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from kollm.core.address import check_address, origin
from kollm.core.errors import InputError, MissingKeyError
from kollm.core.progress import say
from kollm.recipe.engines import ENGINES

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
DEEPL_KEY = "DEEPL_AUTH_KEY"
HOST_KEYS = {
    "openai.com": OPENAI_KEY,
    "anthropic.com": "ANTHROPIC_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "groq.com": "GROQ_API_KEY",
    "mistral.ai": "MISTRAL_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "together.xyz": "TOGETHER_API_KEY",
    "upstage.ai": "UPSTAGE_API_KEY",
    "deepl.com": DEEPL_KEY,
}
"""Domain -> the variable in which its users keep their key; it holds for the domain's hosts, over https."""
_LABEL = re.compile(r"[A-Z0-9](?:[A-Z0-9]|-(?!-)){0,61}(?<!-)")
_announced: set[tuple[str, str | None]] = set()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service's address and the variable that holds its key.

    Attributes:
        url: the address, without a last slash and without a password.
        variable: the environment variable whose value is sent as the key; None for a key that a program was given.
        required: whether the service is not asked without the key.
        chosen: the variable of the environment that names the address; empty where an option or the default does.
    """

    url: str
    variable: str | None
    required: bool
    chosen: str = ""

    @property
    def key(self) -> str:
        """The key; empty for a server that is asked without one.

        Raises:
            MissingKeyError: the service needs one and its variable is not set.
        """
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        if not key and self.required:
            hint = " (any text will do for a server that needs none)" if self.chosen else ""
            raise MissingKeyError(str(self.variable), f"The service at {origin(self.url)}{hint}")
        return key

    @property
    def is_openais(self) -> bool:
        """Whether it is OpenAI, or what the environment names in its place."""
        return self.chosen == "OPENAI_BASE_URL" or _known_variable(self.url) == OPENAI_KEY

    @property
    def said_key(self) -> str:
        """The key, by where it came from."""
        if self.variable is None:
            return "the key that was given"
        there = self.required or os.environ.get(self.variable, "").strip()
        return f"the key in {self.variable}" if there else f"a request without a key ({self.variable} is not set)"

    def __str__(self) -> str:
        where = f"{origin(self.url)}{f' ({self.chosen})' if self.chosen else ''}"
        said = self.said_key
        return f"{where}, without a key ({self.variable} is not set)" if "without" in said else f"{where}, with {said}"

    def announce(self, *, said: bool = False) -> None:
        """Say once who gets the text, and which key, before the first request; `said` where it was said just now."""
        if (self.url, self.variable) not in _announced:
            _announced.add((self.url, self.variable))
            if not said:
                say(f"The text goes to {self}.")


def chat_endpoint(base_url: str | None = None, key_env: str | None = None, *, given: bool = False) -> Endpoint:
    """Where a chat service is asked.

    Args:
        base_url: its address; None for $OPENAI_BASE_URL, else OpenAI.
        key_env: name of the variable with its key, if not the host's own.
        given: whether a program brings the key itself.

    Raises:
        InputError: no address, or one with a password.
    """
    environment = os.environ.get("OPENAI_BASE_URL", "").strip()
    if environment:
        environment = check_address(environment, "The address in OPENAI_BASE_URL")
    url = check_address(base_url) if base_url else environment or OPENAI_URL
    chosen = "OPENAI_BASE_URL" if environment and origin(url) == origin(environment) else ""
    if given:
        return Endpoint(url, None, False, chosen)
    if key_env is not None:
        return Endpoint(url, key_env, True, chosen)
    if chosen:
        return Endpoint(url, OPENAI_KEY, True, chosen)
    known = _known_variable(url)
    return Endpoint(url, known or own_variable(url), known is not None)


def deepl_endpoint(server_url: str | None = None, auth_key: str | None = None) -> Endpoint:
    """Where DeepL is asked; by default its own host for the kind of key, as DeepL's client does.

    Args:
        server_url: its address; None for $DEEPL_SERVER_URL, else DeepL.
        auth_key: the key, where a program brings it.

    Raises:
        InputError: no address, or one with a password.
    """
    environment = os.environ.get("DEEPL_SERVER_URL", "").strip()
    if environment:
        environment = check_address(environment, "The address in DEEPL_SERVER_URL")
    url = check_address(server_url, "DeepL's address") if server_url else environment
    if not url:
        free = (auth_key or os.environ.get(DEEPL_KEY, "").strip()).endswith(":fx")
        url = "https://api-free.deepl.com" if free else "https://api.deepl.com"
    chosen = "DEEPL_SERVER_URL" if environment and origin(url) == origin(environment) else ""
    if auth_key is not None:
        return Endpoint(url, None, False, chosen)
    return Endpoint(url, DEEPL_KEY if chosen else _known_variable(url) or own_variable(url), True, chosen)


def translator_endpoint(translator: str) -> Endpoint | None:
    """Who gets the text of a translator that a build names; None where it stays on this machine."""
    facts = ENGINES.get(translator)
    if facts is None or not facts.asked:
        return None
    return deepl_endpoint() if facts.asked == "deepl" else chat_endpoint()


def check_recipe_address(url: str, where: str) -> None:
    """Refuse an address that a recipe names and the user does not: text would go where its author wants it.

    Args:
        url: the address.
        where: the recipe's key.

    Raises:
        InputError: it is no service that is known, none that the environment names, and none that has a key.
    """
    endpoint = chat_endpoint(url)
    if not endpoint.required and not endpoint.key:
        raise InputError(
            f"{where} is {endpoint.url}: this recipe sends text to {origin(endpoint.url)}, which nothing else names - if that "
            f"is your wish, give that host a key (any text if it needs none): export {endpoint.variable}=..., or set "
            "OPENAI_BASE_URL to it."
        )


def own_variable(url: str) -> str:
    """The variable for the key of a host that has no name for it: `KOLLM_KEY_` and the host, with `_` for a dot and `__`
    for a hyphen, so that no two hosts share one.

    Raises:
        InputError: a host whose name does not allow that.
    """
    host = (urlsplit(url).hostname or "").rstrip(".").upper()
    if ":" in host:
        return f"KOLLM_KEY_IPV6_{ipaddress.IPv6Address(host).exploded.replace(':', '').upper()}"
    if not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise InputError(
            f"The host '{host.lower()}' is no usual name of a host - name the variable with its key: --key-env."
        )
    return "KOLLM_KEY_" + host.replace("-", "__").replace(".", "_")


def _known_variable(url: str) -> str | None:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme != "https":
        return None
    return next((name for domain, name in HOST_KEYS.items() if host == domain or host.endswith(f".{domain}")), None)
