"""Rubric files: one readable YAML file each.

A rubric of your own is a file like those in `kollm/judge/rubrics`; give its path where a name is expected.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kollm.core.errors import InputError
from kollm.core.files import read_text
from kollm.core.reading import parse_yaml
from kollm.core.text import normalise
from kollm.judge.rubric import FIELDS, PLACEHOLDER, SECTION, Axis, Kind, Rubric
from kollm.judge.rules import Rule, check_rules

RUBRICS = Path(__file__).resolve().parent / "rubrics"
REQUIRED = {"instruction", "response"}


def rubric_names() -> list[str]:
    """Names of the shipped rubrics, sorted."""
    return sorted(path.stem for path in RUBRICS.glob("*.yaml"))


def load_rubric(name_or_path: str | Path | Rubric) -> Rubric:
    """A shipped rubric by name, or a YAML file by path; a Rubric passes through.

    Raises:
        InputError: there is none, or the file does not describe a rubric.
    """
    if isinstance(name_or_path, Rubric):
        return name_or_path
    path = Path(name_or_path)
    if str(name_or_path) in rubric_names():
        path = RUBRICS / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise InputError(
            f"There is no rubric '{name_or_path}' - use {', '.join(rubric_names())}, or the path of a .yaml file of yours."
        )
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _modified: int) -> Rubric:
    values = parse_yaml(normalise(read_text(path)), f"Rubric {path}")
    try:
        file = _RubricFile.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(_explain(item).removesuffix(".") for item in error.errors())
        raise InputError(f"Rubric {path}: {reasons}.") from error
    return file.rubric()


def _explain(item: object) -> str:
    assert isinstance(item, dict)
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if not key:
        return "the file holds no keys - copy one of kollm's rubrics and change it"
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}' - remove it"
    if item["type"] == "missing":
        return f"the key '{key}' is missing - add it"
    return f"'{key}' is {item['input']!r} - {item['msg'][0].lower()}{item['msg'][1:]}"


class _AxisFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    label: str = Field(min_length=1)
    low: int = Field(0, ge=0, le=100)
    high: int = Field(1, ge=0, le=100)
    also: tuple[str, ...] = ()
    kind: Kind = "score"
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.kind == "score" and not {"low", "high"} <= self.model_fields_set:
            raise ValueError(f"axis '{self.key}' has no `low` and `high` - add the ends of its scale")
        if self.low >= self.high:
            raise ValueError(f"axis '{self.key}' goes from {self.low} to {self.high} - `low` must be less than `high`")
        if self.kind != "score" and (self.low, self.high) != (0, 1):
            raise ValueError(f"axis '{self.key}' is a share, which goes from 0 to 1 - leave out `low` and `high`")
        if self.rules and self.kind != "rules":
            raise ValueError(f"axis '{self.key}' has rules - add `kind: rules`")
        try:
            check_rules(self.rules, f"axis '{self.key}'")
        except InputError as error:
            raise ValueError(str(error)) from error
        return self


class _RubricFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    language: str = Field(min_length=2)
    axes: tuple[_AxisFile, ...] = Field(min_length=1)
    prompt: str = ""
    prompt_without_input: str | None = None
    reply_form: str = ""
    fenced: bool = False
    reply_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _texts(self) -> Self:
        keys = [axis.key for axis in self.axes]
        labels = [label.casefold() for axis in self.axes for label in (axis.label, *axis.also)]
        if len(set(keys)) < len(keys) or len(set(labels)) < len(labels):
            raise ValueError("two axes share a key or a label - give each its own")
        if sum(axis.kind == "checklist" for axis in self.axes) > 1:
            raise ValueError("two axes are checklists - a task brings one")
        if all(axis.kind == "rules" for axis in self.axes):
            if self.prompt or self.reply_form or self.prompt_without_input:
                raise ValueError("all axes are rules, which no judge is asked - leave out prompt and reply_form")
            return self
        for axis in self.axes:
            lines = re.findall(rf"(?m)^.*{re.escape(axis.label)}.*$", self.reply_form)
            if axis.kind == "score" and len(lines) != 1:
                raise ValueError(f"reply_form must have exactly one line with the label '{axis.label}'")
        checklist = {"checklist"} if any(axis.kind == "checklist" for axis in self.axes) else set()
        needed = REQUIRED | checklist | ({"fence"} if self.fenced else set())
        allowed = needed | (FIELDS - {"checklist"})
        if "input" in _placeholders(self.prompt) and self.prompt_without_input is not None:
            _check_placeholders("prompt_without_input", self.prompt_without_input, needed, allowed - {"input"})
        elif self.prompt_without_input is not None:
            raise ValueError("prompt shows no {input}, so that prompt_without_input is never used - leave it out")
        _check_placeholders("prompt", self.prompt, needed, allowed)
        return self

    def rubric(self) -> Rubric:
        return Rubric(
            name=self.name,
            language=self.language,
            axes=tuple(Axis(a.key, a.label, a.low, a.high, a.also, a.kind, a.rules) for a in self.axes),
            template=self.prompt,
            template_without_input=self.prompt_without_input,
            reply_form=self.reply_form,
            fenced=self.fenced,
            reply_tokens=self.reply_tokens,
        )


def _placeholders(text: str) -> set[str]:
    return set(PLACEHOLDER.findall(text))


def _check_placeholders(key: str, text: str, needed: set[str], allowed: set[str]) -> None:
    found = _placeholders(text)
    wrong = sorted(f"{{{name}}}" for name in (needed - found) | (found - allowed))
    if wrong:
        raise ValueError(
            f"{key} is missing or should not have {', '.join(wrong)} - it takes each of its placeholders at least once"
        )
    sections = {section[1] for section in SECTION.finditer(text)}
    if unknown := sections - (allowed - {"fence"}):
        raise ValueError(f"{key} has a section {{?{min(unknown)}}} of no field - remove it")
    if "{?" in SECTION.sub(lambda section: section[2], text):
        raise ValueError(
            f"{key} has a section that does not end, or one inside another - end it: {{?input}}...{{/input}}"
        )
