"""Recipes: one YAML file says which data, base, adapter, training, decoding and judge make a system.

A recipe may start from another (`extends: NAME`); its own keys win, section by section and key by key. Unknown keys are
errors. `origins` tells where values come from: `paper`, `released code`, `assumed: why`, keyed by dotted name.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kollm.core.errors import RecipeError
from kollm.core.records import content_id
from kollm.core.resources import PACKAGE, resource_folder

TOY_PREFIX = "toy:"
"""A base named `toy:ARCHITECTURE` is made on the spot by `kollm.train.toy`, e.g. `toy:gpt_neox`."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ToyBase(_Section):
    """Shape and pre-training of a base that is made on the spot."""

    hidden_size: int = Field(160, ge=8)
    layers: int = Field(3, ge=1)
    heads: int = Field(5, ge=1)
    vocab_size: int = Field(2500, ge=300)
    context: int = Field(2048, ge=64)
    pretrain_steps: int = Field(120, ge=0)
    pretrain_batch: int = Field(8, ge=1)
    pretrain_block: int = Field(128, ge=16)
    learning_rate: float = Field(3e-3, gt=0)
    seed: int = 0


class Base(_Section):
    """The base model: a Hub id, a folder, or `toy:ARCHITECTURE`.

    `new_tokens` names a file of tokens, one a line, that extend the vocabulary; embeddings and head are trained then.
    """

    model: str
    revision: str | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    new_tokens: str | None = None
    toy: ToyBase | None = None

    @property
    def is_toy(self) -> bool:
        return self.model.startswith(TOY_PREFIX)


class Source(_Section):
    """One source of rows. `input` is a file, a Hub id, or `sample` for the rows that come with kollm.

    `limit` is how many rows are read: the first, or of a huge source a sample over its files.
    """

    name: str
    input: str | None = None
    revision: str | None = None
    memory: str | None = None
    limit: int | None = Field(None, ge=1)


class Data(_Section):
    """Which rows are read, how they become Korean, and which of them are kept."""

    sources: tuple[Source, ...] = ()
    dataset: str | None = None
    evaluation: Source | None = None
    translator: Literal["deepl", "openai", "local", "memory", "none"] = "memory"
    translator_model: str | None = None
    mode: Literal["row", "field"] = "row"
    filters: Literal["default", "paper", "paper-all", "none"] = "default"
    turns: Literal["conversation", "pairs", "first"] = "conversation"
    keep_english: bool = False
    holdout: float = Field(0.0, ge=0.0, lt=1.0)
    holdout_seed: int = 0


class Adapter(_Section):
    """The trainable part; `full` trains every weight and has no adapter."""

    method: Literal["lora", "dora", "ia3", "adaption_prompt", "full"] = "lora"
    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = ("query_key_value",)
    feedforward: tuple[str, ...] = ()
    adapter_len: int = Field(10, ge=1)
    adapter_layers: int | None = Field(None, ge=1)


class GenerationSettings(_Section):
    """How answers are decoded, and by which systems: the adapter, and the untouched base as a row of its own."""

    preset: Literal["paper", "beam-sample", "greedy"] = "paper"
    max_new_tokens: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    systems: tuple[Literal["adapter", "base"], ...] = ("adapter", "base")


class Judge(_Section):
    """Who judges, by which rubric, asked in which way. `engine: local` scores with a causal model's probabilities."""

    engine: Literal["local", "openai"] = "openai"
    rubric: str = "kullm2023"
    mode: Literal["text", "structured", "logprob"] = "text"
    model: str | None = None
    base_url: str | None = None
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _local_takes_no_service(self) -> Judge:
        service = {
            "mode": self.mode == "structured",
            "base_url": self.base_url is not None,
            "samples": self.samples > 1,
        }
        if self.engine == "local" and any(service.values()):
            names = ", ".join(name for name, given in service.items() if given)
            raise ValueError(f"judge.engine is local, which asks no service: {names} has no effect - leave it out")
        return self


class Recipe(_Section):
    """Everything that makes one system. Frozen; `fingerprint()` names its content."""

    name: str = ""
    description: str = ""
    base: Base
    data: Data = Data()
    prompt: str = "kullm-2023"
    adapter: Adapter = Adapter()
    quantization: Literal["none", "int8", "nf4"] = "none"
    trainer: dict[str, Any] = Field(default_factory=dict)
    generation: GenerationSettings = GenerationSettings()
    judge: Judge = Judge()
    global_batch_size: int = Field(256, ge=1)
    loss: Literal["completion", "all"] = "completion"
    attention: Literal["auto", "sdpa", "eager", "varlen", "flash_attention_2"] = "auto"
    origins: dict[str, str] = Field(default_factory=dict)

    @field_validator("trainer")
    @classmethod
    def _trainer_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_trainer(value)

    @model_validator(mode="after")
    def _origins_name_real_keys(self) -> Recipe:
        known = set(_dotted(self.model_dump(exclude={"origins"})))
        for key in self.origins:
            if key not in known and key.split(".")[0] != "trainer":
                raise ValueError(f"origins names '{key}', which is no key of a recipe")
        return self

    def fingerprint(self, *sections: str) -> str:
        """Content hash of the whole recipe, or of the named top-level keys alone."""
        values = self.model_dump(mode="json", exclude={"name", "description", "origins"})
        return content_id({key: values[key] for key in sections} if sections else values)


@functools.cache
def trainer_keys() -> dict[str, list[str]]:
    """SFTConfig's keys and the YAML types that each takes, as shipped in `recipe/trainer_keys.json`.

    Shipped, so that a recipe is checked without importing torch; a test compares the file with TRL's SFTConfig.
    """
    keys: dict[str, list[str]] = json.loads((PACKAGE / "recipe" / "trainer_keys.json").read_text(encoding="utf-8"))
    return keys


_OURS = {
    "output_dir": "-o",
    "gradient_accumulation_steps": "global_batch_size",
    "completion_only_loss": "loss",
    "assistant_only_loss": "loss",
    "chat_template_path": "prompt",
    "model_init_kwargs": "base, quantization and attention",
    "loss_type": "loss",
    "packing_strategy": "trainer.packing",
    "padding_free": "trainer.packing",
    "eval_strategy": "data.holdout",
    "deepspeed": "--config",
    "fsdp": "--config",
    "fsdp_config": "--config",
}
"""SFTConfig's keys that kollm sets itself, and the recipe key that decides them."""

_UNUSED = frozenset(
    {
        "dataloader_drop_last",
        "label_smoothing_factor",
        "pad_to_multiple_of",
        "shuffle_dataset",
        "train_sampling_strategy",
        "truncation_mode",
    }
)
"""SFTConfig's keys that would change nothing, since kollm orders, cuts and pads the rows and computes the loss itself."""


def check_trainer(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `trainer` section with its numbers coerced (YAML reads `3e-4` as text).

    Raises:
        ValueError: a key that SFTConfig has not, one that kollm sets itself or never reads, or a value of the wrong type.
    """
    known = trainer_keys()
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key in _OURS:
            raise ValueError(f"trainer.{key} is set by kollm - use {_OURS[key]} instead")
        if key in _UNUSED:
            raise ValueError(f"trainer.{key} has no effect in kollm - leave it out")
        if key not in known:
            raise ValueError(f"trainer.{key} is no key of SFTConfig{_suggest(key, known)}")
        checked[key] = _coerce(key, value, known[key])
    return checked


def _coerce(key: str, value: Any, types: Sequence[str]) -> Any:
    if "any" in types or (value is None and "none" in types):
        return value
    if isinstance(value, bool):
        if "bool" in types:
            return value
    elif isinstance(value, int | float | str):
        if isinstance(value, str) and "str" in types:
            return value
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is not None and "int" in types and number.is_integer():
            return int(number)
        if number is not None and "float" in types:
            return number
    elif isinstance(value, dict) and "dict" in types:
        return {name: _number(part) for name, part in value.items()}
    elif isinstance(value, list) and "list" in types:
        return value
    raise ValueError(f"trainer.{key} is {value!r} - it takes {' or '.join(types)}")


def _number(value: Any) -> Any:
    """The number that YAML reads as text, as it does `1e-5`; any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted; those that begin with `_` are parts of others and are left out."""
    return sorted(p.stem for p in resource_folder("recipe/recipes").glob("*.yaml") if not p.stem.startswith("_"))


def load_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a shipped recipe by name, or a YAML file by path, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such recipe, malformed YAML, an unknown key, or a value that does not fit.
    """
    path = _find(str(name_or_path))
    values = _read(path, seen=())
    for override in overrides:
        _apply(values, override)
    values.setdefault("name", path.stem)
    return parse_recipe(values, str(path))


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validate the values of one recipe.

    Raises:
        RecipeError: an unknown key or a value that does not fit; the message lists every fault.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"Recipe {where}: " + "; ".join(_explain(item) for item in error.errors())) from error


def _find(name: str) -> Path:
    if name in [p.stem for p in resource_folder("recipe/recipes").glob("*.yaml")]:
        return resource_folder("recipe/recipes") / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise RecipeError(f"The recipe file '{name}' does not exist - check the path.")
    raise RecipeError(
        f"There is no recipe '{name}'{_suggest(name, recipe_names())} - `kollm recipe list` shows them; "
        "a file of yours must end in .yaml."
    )


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise RecipeError(f"Recipe {path}: `extends` leads back to itself - remove one of the links.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"Recipe {path}, line {line}: not valid YAML ({error.problem}) - mend that line.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"Recipe {path}: not readable as UTF-8 YAML ({error}) - mend the file.") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"Recipe {path}: holds {type(values).__name__}, not keys and values - see `kollm recipe show demo`."
        )
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise RecipeError(f"Recipe {path}: extends is {parent!r} - name one recipe.")
    relative = path.parent / parent
    inherited = _read(relative if relative.is_file() else _find(parent), (*seen, path))
    for key in ("name", "description"):
        inherited.pop(key, None)
    return _merge(inherited, values)


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"The override '{override}' has no '=' - write section.key=value.")
    *sections, last = key.split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise RecipeError(f"The override '{override}': '{section}' holds no keys - write section.key=value.")
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"The override '{override}' is not valid YAML after '=' - quote the value.") from error
    if sections[:1] != ["origins"] and isinstance(values.setdefault("origins", {}), dict):
        kept = {name: origin for name, origin in values["origins"].items() if not f"{name}.".startswith(f"{key}.")}
        values["origins"] = {**kept, key: "override"}  # what the recipe says of a value is not said of another


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_suggest(key.rsplit('.', 1)[-1], _known_keys(item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"the key '{key}' is missing - add it"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return f"'{key}' is {item['input']!r} - {item['msg'][0].lower()}{item['msg'][1:]}"


def _known_keys(location: Sequence[Any]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), Recipe)
    return list(model.model_fields)


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" - did you mean '{close[0]}'?" if close else ""


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
