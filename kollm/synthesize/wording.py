"""What models are asked, and how their answers are marked: one YAML file a language, in `prompts/`."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from kollm.core.errors import InputError

_FOLDER = Path(__file__).parent / "prompts"


class Wording(BaseModel):
    """The texts of one language; the keys are explained in prompts/ko.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    is_one: str
    is_none: str
    no_input: str
    instruction_label: str
    input_label: str
    output_label: str
    minimum_words: int
    maximum_words: int
    unsuitable: tuple[str, ...]
    bad_starts: tuple[str, ...]
    new_instructions: str
    classify: str
    classify_example: str
    input_first: str
    output_first: str
    self_chat: str
    user: str
    assistant: str


@functools.cache
def load_wording(language: str) -> Wording:
    """The texts of a language.

    Raises:
        InputError: there are none in that language.
    """
    known = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    if language not in known:
        raise InputError(f"There are no prompts in '{language}' - use one of {', '.join(known)}.")
    return Wording.model_validate(yaml.safe_load((_FOLDER / f"{language}.yaml").read_text(encoding="utf-8")))
