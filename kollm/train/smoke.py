"""`kollm train R --smoke`: a recipe's whole training on a tiny random model, before one rents the GPUs for the real one.

The architecture, the adapter, the quantisation, the prompt and the trainer's settings are the recipe's; base and data
are not: a random model of two layers, and the rows that come with kollm.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from kollm.core.files import read_json
from kollm.core.ownership import require_own
from kollm.core.preferences import Preference
from kollm.core.records import Record
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part
from kollm.dataset.preferences import preference_table
from kollm.dataset.tables import to_table
from kollm.recipe.bases import DIFFERENT
from kollm.recipe.chat import CHAT
from kollm.recipe.load import parse_recipe, preferring
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import Recipe, ToyBase
from kollm.sources import SAMPLE, read_source
from kollm.train.check import architecture_of
from kollm.train.job import train_recipe
from kollm.train.prompts import AUTO
from kollm.train.shapes import whole_config
from kollm.train.toy import ARCHITECTURES, Wording, answer_texts, make_base, plain_texts, prompt_texts

STEPS = 5
SHAPE = ToyBase(hidden_size=64, layers=2, heads=2, vocab_size=600, context=512, pretrain_steps=0)
"""Wide enough for bitsandbytes, whose blocks hold 64 values."""
_TRAINER = {
    "max_steps": STEPS,
    "max_length": 512,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_steps": STEPS,
    "dataloader_num_workers": 0,
}
_SOURCES = ("gpt4_llm", "dolly", "sharegpt")


def smoke(recipe: Recipe, output: Path | None = None) -> dict[str, dict[str, Any]]:
    """Train the recipe in small: where it goes on to preferences, that training too, from the first one's adapter.

    Args:
        recipe: any recipe.
        output: where the last training's adapter is kept; None for nowhere.

    Returns:
        The metrics of each training, by its method.

    Raises:
        KollmError: what would have stopped the real training too.
    """
    if output is not None:
        require_own(output, None, "the smoke run")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        rows = _rows()
        architecture = architecture_of(recipe)
        config = None if architecture in ARCHITECTURES else _config(recipe, architecture)
        wording = Wording([*prompt_texts(recipe), *answer_texts(rows)], _is_chat(recipe))
        name = architecture or str(getattr(config, "model_type", ""))
        make_base(name, SHAPE, plain_texts(rows), folder / "base", wording=wording, config=config)
        found: dict[str, dict[str, Any]] = {}
        start: Path | None = None
        for trained in (recipe, *([preferring(recipe)] if recipe.preference is not None else [])):
            small, adapter = _small(trained, name), folder / f"adapter-{trained.method}"
            train_recipe(small, _dataset(trained, rows, folder), adapter, base=folder / "base", start=start)
            found[trained.method] = read_json(adapter / "metrics.json")
            start = adapter
        if output is not None:
            shutil.copytree(adapter, output, dirs_exist_ok=True)
    return found


def _dataset(recipe: Recipe, rows: Sequence[Record], folder: Path) -> str:
    """A dataset folder of the rows, or of pairs of them, as the method takes it."""
    place = folder / f"dataset-{recipe.method}"
    with DatasetWriter(place) as writer:
        if recipe.method == "sft":
            writer.write(Part("sample", "train"), to_table(rows))
        else:
            writer.write(Part(PREFERENCES, "train"), preference_table(_pairs(rows)))
        writer.publish({"sources": list(_SOURCES)}, "Rows of kollm's sample, for a smoke run.")
    return str(place)


def _is_chat(recipe: Recipe) -> bool:
    return recipe.prompt not in (AUTO, *PromptTemplate.names())


def _config(recipe: Recipe, architecture: str | None) -> Any:
    """The configuration whose architecture is trained in small: the base's, or transformers' default of its type."""
    if architecture is not None and not (Path(recipe.base.model) / "config.json").is_file():
        return AutoConfig.for_model(architecture, **DIFFERENT.get(recipe.base.model, {}))
    return whole_config(recipe.base.model, recipe.base.revision)


def _small(recipe: Recipe, architecture: str) -> Recipe:
    values = recipe.model_dump(mode="json", exclude={"origins"})
    values["base"] |= {"model": f"toy:{architecture}", "revision": None, "toy": SHAPE.model_dump()}
    values["data"] |= {"holdout": 0.1}
    values["global_batch_size"] = 4
    values["prompt"] = CHAT if _is_chat(recipe) else recipe.prompt
    values["enable_thinking"] = None  # the toy's chat template does not know it
    values["trainer"] = {**recipe.trainer, **_TRAINER}
    if recipe.trainer.get("warmup_steps", 0) >= 1:
        values["trainer"]["warmup_steps"] = 1
    if recipe.attention in ("varlen", "flash_attention_2"):
        values["attention"] = "auto"
    if recipe.adapter.adapter_layers:
        values["adapter"]["adapter_layers"] = min(recipe.adapter.adapter_layers, SHAPE.layers)
    return parse_recipe(values, f"{recipe.name} (smoke)")


def _pairs(rows: Sequence[Record]) -> list[Preference]:
    """Each row's own answer before that of another row: pairs for the settings, not for the taste."""
    return [
        Preference(row.id, row.source, row.instruction, row.input, row.output, other.output, row.history, row.system)
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
        if row.output.strip() != other.output.strip()
    ]


def _rows() -> list[Record]:
    """Rows of the sample, short ones first: a smoke run is for the settings, not for the data."""
    rows = [row for name in _SOURCES for row in read_source(name, SAMPLE) if isinstance(row, Record)]
    return sorted(rows, key=lambda row: (len(row.instruction) + len(row.input) + len(row.output), row.id))[:120]
