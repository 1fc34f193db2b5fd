"""Rubrics: what a judge is asked, and on which axes it scores. Each is one readable YAML file, named by its hash.

A rubric of your own is a file like those in `kollm/judge/rubrics`; give its path where a name is expected.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kollm.core.errors import InputError
from kollm.core.records import content_id
from kollm.core.text import normalise

RUBRICS = Path(__file__).resolve().parent / "rubrics"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_HANGUL = re.compile("[가-힣]")
_FIELDS = {"instruction", "input", "response"}


@dataclass(frozen=True, slots=True)
class Axis:
    """One scale of a rubric: whole scores from `low` to `high`.

    Attributes:
        key: name of the column in results.
        label: name of the axis in the prompt and the reply.
        also: other labels that judges are known to write.
    """

    key: str
    label: str
    low: int
    high: int
    also: tuple[str, ...] = ()

    @property
    def korean(self) -> str:
        """The first of its labels that has Hangul; the label itself where none has."""
        return next((label for label in (self.label, *self.also) if _HANGUL.search(label)), self.label)

    @property
    def values(self) -> range:
        """The whole scores of the axis."""
        return range(self.low, self.high + 1)

    def accept(self, score: float) -> float | None:
        """The score, or None where it is outside the axis."""
        return score if self.low <= score <= self.high else None


@dataclass(frozen=True)
class Rubric:
    """Axes, the prompt that asks for them, and the form of the reply.

    Attributes:
        template: prompt with the placeholders {instruction}, {input}, {response} and, where fenced, {fence}.
        template_without_input: the prompt for a task without input; None to leave the input blank.
        reply_form: lines that end the prompt, one an axis, each ending where its score belongs.
        fenced: the three fields stand between tokens that their text cannot contain.
    """

    name: str
    language: str
    axes: tuple[Axis, ...]
    template: str
    template_without_input: str | None
    reply_form: str
    fenced: bool

    @cached_property
    def sha256(self) -> str:
        """Hash of the axes and texts: equal hashes ask the same question."""
        return content_id(
            {
                "axes": [[axis.key, axis.label, axis.low, axis.high] for axis in self.axes],
                "prompt": self.template,
                "prompt_without_input": self.template_without_input,
                "reply_form": self.reply_form,
                "fenced": self.fenced,
            }
        )

    def question(self, instruction: str, input: str, response: str) -> str:
        """The prompt without the reply form, as structured judges get it.

        All fields are put in at once, so that a placeholder inside a field stays text. A lone surrogate, which no
        service can receive, becomes U+FFFD.
        """
        values = {"instruction": encodable(instruction), "input": encodable(input), "response": encodable(response)}
        template = self.template
        if self.template_without_input is not None and not input.strip():
            template = self.template_without_input
        if self.fenced:
            values["fence"] = fence_token(self.sha256, *values.values())
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)

    def prompt(self, instruction: str, input: str, response: str) -> str:
        """The whole message to the judge: the question, and the form of the reply."""
        return f"{self.question(instruction, input, response)}\n\n{self.reply_form}"

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """For each axis, how many characters of `reply_form` go up to where its score belongs."""
        ends = []
        for axis in self.axes:
            found = re.search(rf"(?m)^.*{re.escape(axis.label)}.*$", self.reply_form)
            assert found is not None
            ends.append(len(self.reply_form[: found.end()].rstrip()))
        return tuple(ends)

    def none_scores(self) -> dict[str, float | None]:
        """The scores of a reply in which nothing was read."""
        return {axis.key: None for axis in self.axes}


def fence_token(*texts: str) -> str:
    """A token that none of the texts contains.

    It is taken from their hash, so that the same answer gives the same prompt (and is paid once), while an answer that
    holds its own token would have to be a fixed point of SHA-256; one that did would get the next token.
    """
    lowered = "\n".join(texts).casefold()
    for attempt in range(1_000_000):
        digest = hashlib.sha256(content_id([attempt, *texts]).encode("ascii")).hexdigest()
        token = f"data-{digest[:16]}"
        if digest[:16] not in lowered:
            return token
    raise AssertionError("a text holds a million given tokens of 64 bits")


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
    try:
        values = yaml.safe_load(normalise(path.read_text(encoding="utf-8")))
        file = _RubricFile.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Rubric {path}: not readable as UTF-8 YAML ({reason}) - mend the file.") from error
    except ValidationError as error:
        raise InputError(f"Rubric {path}: " + "; ".join(_explain(item) for item in error.errors())) from error
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
    low: int = Field(ge=0, le=100)
    high: int = Field(ge=0, le=100)
    also: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"axis '{self.key}' goes from {self.low} to {self.high} - `low` must be less than `high`")
        return self


class _RubricFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    language: str = Field(min_length=2)
    axes: tuple[_AxisFile, ...] = Field(min_length=1)
    prompt: str
    prompt_without_input: str | None = None
    reply_form: str
    fenced: bool = False

    @model_validator(mode="after")
    def _texts(self) -> Self:
        keys = [axis.key for axis in self.axes]
        labels = [label.casefold() for axis in self.axes for label in (axis.label, *axis.also)]
        if len(set(keys)) < len(keys) or len(set(labels)) < len(labels):
            raise ValueError("two axes share a key or a label - give each its own")
        for axis in self.axes:
            if len(re.findall(rf"(?m)^.*{re.escape(axis.label)}.*$", self.reply_form)) != 1:
                raise ValueError(f"reply_form must have exactly one line with the label '{axis.label}'")
        fence = {"fence"} if self.fenced else set()
        _check_placeholders("prompt", self.prompt, _FIELDS | fence)
        if self.prompt_without_input is not None:
            _check_placeholders("prompt_without_input", self.prompt_without_input, (_FIELDS | fence) - {"input"})
        return self

    def rubric(self) -> Rubric:
        return Rubric(
            name=self.name,
            language=self.language,
            axes=tuple(Axis(axis.key, axis.label, axis.low, axis.high, axis.also) for axis in self.axes),
            template=self.prompt,
            template_without_input=self.prompt_without_input,
            reply_form=self.reply_form,
            fenced=self.fenced,
        )


def _check_placeholders(key: str, text: str, expected: set[str]) -> None:
    found = set(_PLACEHOLDER.findall(text))
    if found != expected:
        wrong = ", ".join(sorted(f"{{{name}}}" for name in found ^ expected))
        raise ValueError(
            f"{key} is missing or should not have {wrong} - it takes each of its placeholders at least once"
        )


def encodable(text: str) -> str:
    """The text with every lone surrogate, which UTF-8 cannot hold, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
