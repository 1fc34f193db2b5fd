"""Engines by name, made when they are asked for: each needs another optional package."""

from __future__ import annotations

import importlib
from typing import Any, cast

from kollm.core.errors import InputError
from kollm.recipe.engines import ENGINES, engine_facts
from kollm.services.endpoint import chat_endpoint
from kollm.translate.translator import Translator


def make_translator(name: str, **options: Any) -> Translator:
    """An engine by name; the options are those of its class.

    Raises:
        InputError: there is no such engine, or it has no such option.
        MissingExtraError: its package is not installed.
        MissingKeyError: its key is not set.
    """
    facts = ENGINES.get(name)
    if facts is None:
        raise InputError(f"There is no translator '{name}' - use one of {', '.join(ENGINES)}.")
    engine = getattr(importlib.import_module(facts.module), facts.class_name)
    try:
        return cast(Translator, engine(**options))
    except TypeError as error:
        raise InputError(
            f"The translator '{name}' cannot be made ({error}) - see help({facts.module}.{facts.class_name})."
        ) from error


def check_engine(name: str, model: str | None = None) -> None:
    """Find out whether an engine can be asked: its package, its key, its options; nothing is sent.

    Raises:
        InputError: there is no such engine, or it has no choice of models.
        MissingExtraError: its package is not installed.
        MissingKeyError: its key is not set.
    """
    facts = engine_facts(name)
    if facts is None or not facts.asked:
        return
    translator = make_translator(name, **model_options(name, model))
    if facts.asked == "chat":
        _ = chat_endpoint(translator.base_url or None).key


def model_options(name: str, model: str | None) -> dict[str, Any]:
    """The argument of an engine's class that chooses its model; none for no model."""
    facts = engine_facts(name)
    if model is None or facts is None or not facts.model_option:
        return {}
    return {facts.model_option: model}
