"""Recipes: one YAML file says which data, base, adapter, training, decoding and judge make a system.

Unknown keys are errors. `origins` tells where values come from: `paper`, `released code`, `assumed: why`, keyed by dotted
name. How a recipe is read from its file is in load.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from kollm.core.address import check_address
from kollm.core.errors import InputError
from kollm.core.hashing import content_id
from kollm.recipe.engines import TranslatorName
from kollm.recipe.methods import METHODS, PREFERENCE_METHODS
from kollm.recipe.trainer_keys import check_trainer

TOY_PREFIX = "toy:"
"""A base named `toy:ARCHITECTURE` is made on the spot by `kollm.train.toy`, e.g. `toy:gpt_neox`."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ToyBase(Section):
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


class Base(Section):
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


class Amount(Section):
    """How much of some rows is trained on: `weight`, `limit` or `repeat`, one of them; all of it where none is said.

    Attributes:
        weight: a share of the mixture's weighted rows, in proportion to the other weights; no row comes twice for it.
        limit: so many rows.
        repeat: so many copies of each row; 0.5 is half of the rows, 2.5 each twice and half of them a third time.
    """

    weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    limit: int | None = Field(None, ge=1)
    repeat: float | None = Field(None, gt=0, le=100, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        said = [name for name in AMOUNTS if getattr(self, name) is not None]
        if len(said) > 1:
            whose = getattr(self, "dataset", getattr(self, "name", ""))
            raise ValueError(f"{' and '.join(said)} of '{whose}' both say how many rows are taken - keep one of them")
        return self

    @property
    def amount(self) -> dict[str, float]:
        """What is said, by its name; empty for all rows."""
        return {name: getattr(self, name) for name in AMOUNTS if getattr(self, name) is not None}


AMOUNTS = ("weight", "limit", "repeat")


class Source(Amount):
    """One source of rows. `input` is a file, a Hub id, or `sample` for the rows that come with kollm.

    `limit` is how many rows are read: the first, or of a huge source a sample over its files. `weight` and `repeat` are
    of the rows that were kept.
    """

    name: str
    input: str | None = None
    revision: str | None = None
    memory: str | None = None


class GivenDataset(Amount):
    """One dataset of a mixture: a folder or Hub name of kollm's, or rows of a user's own.

    Attributes:
        dataset: what `--dataset` takes.
        name: what the mixture calls it; by default after the file, folder or repository.
        map: field -> column, of rows of one's own.
        config: of a dataset on the Hub.
        split: of rows of one's own.
        licence: of rows of one's own.
    """

    dataset: str
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    map: dict[str, str] = Field(default_factory=dict)
    config: str | None = None
    split: str | None = None
    licence: str = ""


class BuildSettings(Section):
    """What a build does to every source; stands in the manifest. One kind for recipes, `kollm data build` and Python.

    Attributes:
        filters: name of the filter set.
        turns: what becomes of conversations.
        mode: `row` translates a row as one document, `field` its fields apart.
        privacy: what becomes of personal data, before any text leaves this machine: `mask` and `drop` look into every
            source, `auto` masks it in sources that are shared conversations.
        near: least similarity of a near duplicate; above 1 for none.
        leaks: what becomes of rows that hold an evaluation task.
        against: evaluation sets to look for: `human_eval` for the 252 user-oriented tasks, a file, a dataset folder or a
            Hub id; those among the sources are looked for in any case.
        limit: rows to read of each source: the first, or of a huge source a sample over its files.
        seed: of that sample, and of what is drawn for a mixture.
        corrections: path of a review file (`kollm data review`) whose decisions are replayed; empty for none.
        keep_english: whether each translated row is followed by its English original, as in KORani's data.
        fresh_answers: whether only questions are translated, and rows set aside for answers of a model, as in KoAlpaca's.
    """

    filters: Literal["default", "paper", "paper-all", "none"] = "default"
    turns: Literal["conversation", "pairs", "first"] = "conversation"
    mode: Literal["row", "field"] = "row"
    privacy: Literal["auto", "mask", "drop", "off"] = "auto"
    near: float = Field(0.8, gt=0.0)
    leaks: Literal["refuse", "drop", "keep"] = "refuse"
    against: tuple[str, ...] = ("human_eval",)
    limit: int | None = Field(None, ge=1)
    seed: int = 0
    corrections: str = ""
    keep_english: bool = False
    fresh_answers: bool = False


class Data(BuildSettings):
    """Which rows are read, how they become Korean, and which of them are kept."""

    sources: tuple[Source, ...] = ()
    dataset: str | None = None
    datasets: tuple[GivenDataset, ...] = ()
    evaluation: Source | None = None
    translator: TranslatorName = "memory"
    translator_model: str | None = None
    holdout: float = Field(0.0, ge=0.0, lt=1.0)
    holdout_seed: int = 0

    @model_validator(mode="after")
    def _one_way_to_give_rows(self) -> Self:
        if self.dataset is not None and self.datasets:
            raise ValueError("data.dataset and data.datasets are both set - keep one")
        return self

    @property
    def is_given(self) -> bool:
        """Whether the rows come from datasets, which take the place of the sources."""
        return self.dataset is not None or bool(self.datasets)

    @property
    def build(self) -> BuildSettings:
        """The settings of its build, without its sources and its translator."""
        return BuildSettings(**{name: getattr(self, name) for name in BuildSettings.model_fields})


TRAINED_KEYS = (
    "method",
    "base",
    "prompt",
    "enable_thinking",
    "early_stopping",
    "adapter",
    "quantization",
    "trainer",
    "global_batch_size",
    "loss",
    "learn_tool_calls",
    "attention",
)
"""The recipe's keys that decide what is trained; `data` is named by the dataset's fingerprint."""
SPLIT_KEYS = ("evaluation", "holdout", "holdout_seed")
"""Keys of `data` that say how rows are divided; the others make the rows, and are of no effect on a dataset that is given."""


class Adapter(Section):
    """The trainable part; `full` trains every weight and has no adapter."""

    method: Literal["lora", "dora", "ia3", "adaption_prompt", "full"] = "lora"
    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = ("query_key_value",)
    feedforward: tuple[str, ...] = ()
    adapter_len: int = Field(10, ge=1)
    adapter_layers: int | None = Field(None, ge=1)


class GenerationSettings(Section):
    """How answers are decoded, and by which systems: the adapter, and the untouched base as a row of its own."""

    preset: Literal["paper", "beam-sample", "sample", "greedy"] = "paper"
    max_new_tokens: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    systems: tuple[Literal["adapter", "base"], ...] = ("adapter", "base")
    during_training: int = Field(0, ge=0)


class Judge(Section):
    """Who judges, by which rubric, asked in which way. `engine: local` scores with a causal model's probabilities."""

    engine: Literal["local", "openai", "rules"] = "openai"
    rubric: str = "kullm2023-fixed"
    mode: Literal["text", "structured", "rationale", "logprob"] = "text"
    model: str | None = None
    base_url: str | None = None
    samples: int = Field(1, ge=1)
    reply_tokens: int | None = Field(None, ge=1)
    reasoning_tokens: int | None = Field(None, ge=0)

    @field_validator("base_url")
    @classmethod
    def _address_holds_no_password(cls, value: str | None) -> str | None:
        try:
            return None if value is None else check_address(value, "judge.base_url")
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _local_takes_no_service(self) -> Judge:
        service = {
            "mode": self.mode in ("structured", "rationale"),
            "base_url": self.base_url is not None,
            "samples": self.samples > 1,
            "reply_tokens": self.reply_tokens is not None,
            "reasoning_tokens": self.reasoning_tokens is not None,
        }
        if self.engine != "openai" and any(service.values()):
            names = ", ".join(name for name, given in service.items() if given)
            raise ValueError(
                f"judge.engine is {self.engine}, which asks no service: {names} has no effect - leave it out"
            )
        return self


class PreferenceStep(Section):
    """What follows the adapter: samples of training prompts, their verdicts, pairs, and another training on the pairs.

    Attributes:
        samples: answers to each prompt.
        prompts: how many training prompts are answered, drawn by their ids; None for all.
        preset: by which the samples are drawn.
        max_new_tokens: of a sample; None for the recipe's own.
        judge: who judges the samples; None for the judge of the answers. Another one keeps the evaluation apart.
        axis, margin, agreement, max_length_ratio, balance_length, take, allow_cut: which pairs are made, as `kollm data pairs` has them.
        method: what is trained on the pairs; the adapter is its start and its reference.
        trainer: keys of that training.
        global_batch_size: pairs of a step.
    """

    samples: int = Field(4, ge=2)
    prompts: int | None = Field(None, ge=1)
    preset: Literal["sample", "beam-sample"] = "sample"
    max_new_tokens: int | None = Field(None, ge=1)
    judge: Judge | None = None
    axis: str | None = None
    margin: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    agreement: float = Field(0.75, ge=0.5, le=1.0)
    max_length_ratio: float | None = Field(None, gt=1.0, allow_inf_nan=False)
    balance_length: bool = False
    take: Literal["best", "all"] = "best"
    allow_cut: bool = False
    method: str = "dpo"
    trainer: dict[str, Any] = Field(default_factory=dict)
    global_batch_size: int = Field(64, ge=1)

    @field_validator("method")
    @classmethod
    def _takes_pairs(cls, value: str) -> str:
        if value not in PREFERENCE_METHODS:
            raise ValueError(f"preference.method is '{value}' - it takes {', '.join(PREFERENCE_METHODS)}")
        return value


class Recipe(Section):
    """Everything that makes one system. Frozen; `fingerprint()` names its content."""

    name: str = ""
    description: str = ""
    method: str = "sft"
    base: Base
    data: Data = Data()
    prompt: str = "auto"
    enable_thinking: bool | None = None
    early_stopping: int | None = Field(None, ge=1)
    adapter: Adapter = Adapter()
    quantization: Literal["none", "int8", "nf4"] = "none"
    trainer: dict[str, Any] = Field(default_factory=dict)
    generation: GenerationSettings = GenerationSettings()
    judge: Judge = Judge()
    preference: PreferenceStep | None = None
    global_batch_size: int = Field(256, ge=1)
    loss: Literal["completion", "all"] = "completion"
    learn_tool_calls: bool = False
    attention: Literal["auto", "sdpa", "eager", "varlen", "flash_attention_2"] = "auto"
    origins: dict[str, str] = Field(default_factory=dict)

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(f"method is '{value}' - it takes {', '.join(METHODS)}")
        return value

    @field_validator("trainer")
    @classmethod
    def _trainer_keys(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return check_trainer(value, info.data.get("method", "sft"))

    @model_validator(mode="after")
    def _origins_name_real_keys(self) -> Recipe:
        known = set(dotted_keys(self.model_dump(exclude={"origins"})))
        for key in self.origins:
            if key not in known and key.removeprefix("preference.").split(".")[0] != "trainer":
                raise ValueError(f"origins names '{key}', which is no key of a recipe")
        return self

    def with_given_data(self) -> Recipe:
        """The recipe as it is recorded where a dataset was given in place of its own."""
        keys = (key for key in Data.model_fields if key not in SPLIT_KEYS)
        return self.without_origins(*(f"data.{key}" for key in keys))

    def without_origins(self, *keys: str) -> Recipe:
        """The recipe with nothing said of where these keys, and those below them, come from: others took their place."""
        kept = {
            name: origin
            for name, origin in self.origins.items()
            if not any(f"{name}.".startswith(f"{key}.") for key in keys)
        }
        return self.model_copy(update={"origins": kept})

    def fingerprint(self, *sections: str) -> str:
        """Content hash of the whole recipe, or of the named top-level keys alone."""
        values = self.model_dump(mode="json", exclude={"name", "description", "origins"})
        return content_id({key: values[key] for key in sections} if sections else values)


def dotted_keys(values: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Every key of nested values by its dotted name, sections before their keys."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{prefix}{key}.")
