"""The table of engines: every name in every place comes from it."""

from __future__ import annotations

import importlib
import inspect
from typing import get_args

import pytest

from kollm.core.errors import InputError, MissingKeyError
from kollm.recipe.engines import ENGINES, TRANSLATORS, TranslatorName, engine_facts
from kollm.translate.engines import check_engine


def test_the_type_and_the_table_agree() -> None:
    assert get_args(TranslatorName) == TRANSLATORS


@pytest.mark.parametrize("name", ENGINES)
def test_each_row_leads_to_a_class_that_takes_its_model(name: str) -> None:
    facts = ENGINES[name]
    engine = getattr(importlib.import_module(facts.module), facts.class_name)
    assert engine.name == name
    assert not facts.model_option or facts.model_option in inspect.signature(engine).parameters


def test_an_engine_is_checked_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DEEPL_AUTH_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("deepl", "openai"):
        with pytest.raises(MissingKeyError):
            check_engine(name)
    for name in ("memory", "none", "local"):
        check_engine(name)
    with pytest.raises(InputError, match="no translator 'depl' - use one of deepl"):
        engine_facts("depl")
