"""kollm: Korean instruction tuning on the Hugging Face Hub.

The public names load on first use, so that `import kollm` stays light:

    recipe = kollm.load_recipe("kullm-polyglot-5.8b")
    report = kollm.build_dataset(["dolly"], translator="deepl", output="ko-dolly")
    template = kollm.PromptTemplate.load("kullm-2023")
    kollm.metric_path(), kollm.judge.parse_verdict(text, "kullm2023")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kollm.core.version import __version__

_HOMES = {
    "Generation": "kollm.core.generations",
    "KollmError": "kollm.core.errors",
    "PromptTemplate": "kollm.recipe.prompt",
    "Recipe": "kollm.recipe.schema",
    "Record": "kollm.core.records",
    "SourceInput": "kollm.dataset.settings",
    "Verdict": "kollm.core.verdicts",
    "build_dataset": "kollm.dataset.pipeline",
    "load_recipe": "kollm.recipe.load",
    "metric_path": "kollm.metrics",
}
_MODULES = ("judge",)

__all__ = [
    "Generation",
    "KollmError",
    "PromptTemplate",
    "Recipe",
    "Record",
    "SourceInput",
    "Verdict",
    "__version__",
    "build_dataset",
    "judge",
    "load_recipe",
    "metric_path",
]

if TYPE_CHECKING:
    from kollm import judge
    from kollm.core.errors import KollmError
    from kollm.core.generations import Generation
    from kollm.core.records import Record
    from kollm.core.verdicts import Verdict
    from kollm.dataset.pipeline import build_dataset
    from kollm.dataset.settings import SourceInput
    from kollm.metrics import metric_path
    from kollm.recipe.load import load_recipe
    from kollm.recipe.prompt import PromptTemplate
    from kollm.recipe.schema import Recipe


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"kollm.{name}")
    raise AttributeError(f"module 'kollm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
