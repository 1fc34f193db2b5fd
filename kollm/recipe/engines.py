"""The translation engines by name, and what everyone needs to know of one without loading it.

A new engine is a file in translate/, a row of this table, and its name in `TranslatorName`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kollm.core.errors import InputError

TranslatorName = Literal["deepl", "openai", "local", "memory", "none"]
"""What `translator` takes: an engine, or `none` to leave the text as it is."""
NONE = "none"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine.

    Attributes:
        module: where its class is; imported when it is asked for, since each needs another optional package.
        class_name: its class there.
        model_option: the class's argument for a model; empty where there is no choice.
        asked: what kind of service gets the text: `deepl`, `chat`, or empty if it stays on this machine.
        service: that service's name for people.
        price: USD for a million characters; None where another unit is billed.
        rows: most rows in one request.
        characters: most characters in one request.
        requests_per_second: most requests a second; None where no limit is known.
        terms: what a card says of its output; empty where nothing is to be said.
    """

    module: str
    class_name: str
    model_option: str = "model"
    asked: Literal["", "deepl", "chat"] = ""
    service: str = ""
    price: float | None = 0.0
    rows: int = 1
    characters: int = 1 << 30
    requests_per_second: float | None = None
    terms: str = ""


ENGINES = {
    "deepl": EngineFacts(
        "kollm.translate.deepl",
        "DeepLTranslator",
        model_option="model_type",
        asked="deepl",
        service="DeepL",
        price=25.0,
        rows=50,
        characters=120_000,
        requests_per_second=20.0,
        terms="by DeepL, whose terms of service apply; read them before training a translation system on these rows.",
    ),
    "openai": EngineFacts(
        "kollm.translate.openai",
        "OpenAITranslator",
        asked="chat",
        service="the OpenAI-compatible service",
        price=None,
        terms="by a model behind an OpenAI-compatible service, whose terms of use apply.",
    ),
    "local": EngineFacts(
        "kollm.translate.local",
        "LocalTranslator",
        terms="by a model that ran locally; the terms of its licence apply.",
    ),
    "memory": EngineFacts("kollm.translate.memory", "MemoryTranslator", model_option=""),
}
"""By name. DeepL: 50 texts and 128 KiB a request (its documentation), less room for mark-up; the price is a third
party's of 2026, and 20 requests a second is what kollm allows itself."""
TRANSLATORS = (*ENGINES, NONE)


def engine_facts(name: str) -> EngineFacts | None:
    """An engine by name; None for `none`.

    Raises:
        InputError: there is no such engine.
    """
    if name not in TRANSLATORS:
        raise InputError(f"There is no translator '{name}' - use one of {', '.join(TRANSLATORS)}.")
    return ENGINES.get(name)
