"""Whose model a name is: judges favour answers of their own family (Panickssery, Bowman and Feng 2024), so that is warned of."""

from __future__ import annotations

import re
from collections.abc import Mapping

FAMILIES = {
    "OpenAI": r"gpt[-_ ]?[345]o?|gpt[-_]oss|chatgpt|o[134]|davinci",
    "Anthropic": r"claude",
    "Google": r"gemini|gemma|palm",
    "Meta": r"(?:code)?llama",
    "Alibaba": r"qwen|qwq",
    "DeepSeek": r"deepseek",
    "Mistral": r"[a-z]*[sx]tral",
    "xAI": r"grok",
    "Cohere": r"command|c4ai|aya",
    "LG": r"k?-?exaone",
    "Upstage": r"solar",
    "Naver": r"hyper-?clovax?",
    "Kakao": r"kanana|kogpt",
    "KT": r"mi-?dm|midm",
    "EleutherAI": r"eleutherai|polyglot|gpt-neox?|gpt-j|pythia",
    "KULLM": r"kullm",
}
"""A family to what its models' names begin a word with."""
_KNOWN = {name: re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z])") for name, pattern in FAMILIES.items()}


def family(name: str) -> str | None:
    """The family of a model by its name; None where the name says nothing, as `adapter` does."""
    return next((of for of, known in _KNOWN.items() if known.search(name.lower())), None)


def of_judges_family(judge: str, systems: Mapping[str, str]) -> list[str]:
    """The systems, each with the name of its model, that are of the judge's family."""
    own = family(judge)
    return [] if own is None else [s for s, model in systems.items() if own in (family(s), family(model))]
