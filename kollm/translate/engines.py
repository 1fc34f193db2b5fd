"""The engines by name; each is imported when it is asked for, since each needs another optional package."""

from __future__ import annotations

import importlib
from typing import Any, cast

from kollm.core.errors import InputError
from kollm.translate.translator import Translator

ENGINES = {
    "deepl": ("kollm.translate.deepl", "DeepLTranslator"),
    "openai": ("kollm.translate.openai", "OpenAITranslator"),
    "local": ("kollm.translate.local", "LocalTranslator"),
    "memory": ("kollm.translate.memory", "MemoryTranslator"),
}


def make_translator(name: str, **options: Any) -> Translator:
    """An engine by name; the options are those of its class.

    Raises:
        InputError: there is no such engine, or it has no such option.
        MissingExtraError: its package is not installed.
        MissingKeyError: its key is not set.
    """
    if name not in ENGINES:
        raise InputError(f"There is no translator '{name}' - use one of {', '.join(ENGINES)}.")
    module, attribute = ENGINES[name]
    engine = getattr(importlib.import_module(module), attribute)
    try:
        return cast(Translator, engine(**options))
    except TypeError as error:
        raise InputError(
            f"The translator '{name}' cannot be made ({error}) - see help({module}.{attribute})."
        ) from error
