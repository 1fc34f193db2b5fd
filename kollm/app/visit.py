"""One request: who asks, in which language, for which place; and the page that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse

from kollm.app.decisions import person_name
from kollm.app.desk import Desk

PAGES = Path(__file__).resolve().parent / "pages"
WHO, LANGUAGE = "kollm_who", "kollm_language"
LARGEST_FIELD = 1_000_000
"""Bytes of one field of a form."""


class Pages:
    """Fills templates in the reader's language."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, str]] = yaml.safe_load((PAGES / "words.yaml").read_text(encoding="utf-8"))
        self._environment = Environment(
            loader=FileSystemLoader(PAGES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def fill(self, template: str, visit: Visit, values: dict[str, Any]) -> str:
        """The page with these values; every one of them is escaped."""
        language = visit.language
        url = visit.request.url

        def word(key: str, **parts: Any) -> str:
            return self._words[key][language].format(**parts)

        return self._environment.get_template(template).render(
            w=word,
            language=language,
            who=visit.who,
            here=url.path + (f"?{url.query}" if url.query else ""),
            path=url.path,
            **values,
        )


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to the desk."""

    desk: Desk
    pages: Pages
    request: Request

    @property
    def place(self) -> str:
        """Name of the dataset or of the answers that the address names."""
        return str(self.request.path_params["name"])

    @property
    def language(self) -> str:
        """`ko` or `en`: what the reader chose, else what the browser asks for first."""
        chosen = self.request.cookies.get(LANGUAGE)
        if chosen in ("ko", "en"):
            return chosen
        return "ko" if self.request.headers.get("accept-language", "").lower().startswith("ko") else "en"

    @property
    def who(self) -> str:
        """The name that the person gave; empty for none. A cookie holds no Hangul as it is."""
        return unquote(self.request.cookies.get(WHO, ""))

    def person(self) -> str:
        """The person who decides.

        Raises:
            InputError: no name was given.
        """
        return person_name(self.who)

    async def form(self) -> FormData:
        """The form that was sent."""
        return await self.request.form(max_files=0, max_fields=2000, max_part_size=LARGEST_FIELD)

    def render(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page; what UTF-8 cannot hold is replaced."""
        return HTMLResponse(self.pages.fill(template, self, values).encode("utf-8", "replace"), status_code=status)


def as_number(text: str | None) -> int | None:
    """The whole number that a text is; None for any other text."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
