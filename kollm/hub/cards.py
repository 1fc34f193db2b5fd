"""Model cards: adapter, merged model and toy base, rendered from `model_cards/` with figures read from the run's files.

A figure that is missing or empty is an error, never a blank. (A dataset's card is written by its build, dataset_card.py; the
metric's is the README.md of its folder.)
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from kollm.core.card import render_template, to_yaml
from kollm.core.counting import counted
from kollm.core.errors import InputError, MissingExtraError, StateError
from kollm.core.files import read_object, read_text, require_file
from kollm.core.results import read_metrics_file, read_training_file
from kollm.core.version import __version__
from kollm.hub.lineage import METRICS, RECIPE, TOY, TRAINING, Lineage
from kollm.recipe.load import load_recipe
from kollm.recipe.methods import METHODS, method_settings
from kollm.recipe.prompt import BEGIN, QUESTION, PromptTemplate
from kollm.recipe.public import public_values
from kollm.recipe.schema import SPLIT_KEYS, TOY_PREFIX, TRAINED_KEYS
from kollm.report.markdown import markdown_tables, table_cell
from kollm.services.repository import Reference

CURVE = "loss.png"
EVAL_RESULTS = ".eval_results/kollm.yaml"
SHOWN_SECTIONS = ("base", "data", *(key for key in TRAINED_KEYS if key != "base"), "generation")

_OF_ADAPTION_PROMPT = ("adapter.adapter_len", "adapter.adapter_layers")


class Card(NamedTuple):
    """A rendered card and the files that it shows or that go with it, by their path in the repository."""

    text: str
    files: dict[str, bytes]


def trained_card(kind: str, folder: Path, repository: str, lineage: Lineage) -> Card:
    """The card of an adapter (`kind` is `adapter`) or a merged model (`model`).

    Raises:
        InputError: a figure is missing in training.json, metrics.json, recipe.yaml or the report; the message names it.
        MissingExtraError: matplotlib is not installed.
    """
    training, metrics = read_training_file(folder / TRAINING, whole=True), read_metrics_file(folder / METRICS)
    recipe = public_recipe(folder, lineage.base)
    prompt = _trained_prompt(folder, training)
    report = None if lineage.report is None else _public_report(lineage.report, training, lineage)
    eos = end_of_text(folder)
    text = render_template(
        f"{kind}.md.jinja",
        f"the {kind} '{folder}'",
        front_matter=to_yaml(_front_matter(kind, recipe, lineage)),
        name=repository.partition("/")[2],
        repository=repository,
        is_toy=recipe["base"]["model"].startswith(TOY_PREFIX),
        base=lineage.base.repository,
        base_revision=lineage.base.revision or "",
        recipe=recipe,
        settings=list(_settings(recipe)),
        training=training,
        metrics=metrics,
        translated=lineage.translated,
        shares=_shares(metrics),
        learning=_learning(metrics),
        method=_method(recipe),
        dataset=f"`{lineage.dataset}`"
        if lineage.dataset
        else f"a folder that was not published, `{lineage.dataset_fingerprint}`",
        prompt={"name": prompt.name, "sha256": prompt.sha256, "text": _example(prompt, training, eos)},
        question=QUESTION,
        stop=list(prompt.stop),
        eos=eos,
        scores="Not judged." if report is None else markdown_tables(report).strip(),
        limits=list(_limits(recipe, report)),
        licence_text=_licence_text(lineage),
    )
    files = {CURVE: _curve(metrics, folder)}
    if report is not None and lineage.evaluation is not None:
        files[EVAL_RESULTS] = eval_results(report, lineage.evaluation)
    return Card(text, files)


def _example(prompt: PromptTemplate, training: Mapping[str, Any], eos: str) -> str:
    """The prompt of QUESTION as training has written it down; older trainings have kollm's own templates alone."""
    example = training.get("prompt_example")
    return str(example["text"]) if example else prompt.prompt(QUESTION, eos_token=eos)


def _trained_prompt(folder: Path, training: Mapping[str, Any]) -> PromptTemplate:
    """The template that travels with the tokenizer, proven to be the one of training.

    Raises:
        StateError: it is another.
    """
    path = require_file(folder / "chat_template.jinja", "The tokenizer's chat template")
    prompt = PromptTemplate(str(training["prompt"]), read_text(path).removeprefix(BEGIN))
    if prompt.sha256 != training["prompt_sha256"]:
        raise StateError(
            f"'{path}' is not the template that '{folder}' was trained with - put it back, or servers would format prompts in "
            "another way than training did."
        )
    return prompt


def end_of_text(folder: Path) -> str:
    """The end of text that a folder's tokenizer names.

    Raises:
        InputError: it names none.
    """
    path = folder / "tokenizer_config.json"
    token = read_object(path).get("eos_token")
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise InputError(f"'{path}' names no end of text (eos_token) - save the tokenizer again.")
    return text


def _public_report(report: Mapping[str, Any], training: Mapping[str, Any], lineage: Lineage) -> dict[str, Any]:
    """The report with the base's public name in place of the folder that it was: a toy base is its own judge."""
    public: dict[str, Any] = json.loads(json.dumps(report))
    for judging in public["judgings"]:
        if lineage.base_folder is None or judging["model"] is None:
            continue
        if (
            Path(judging["model"]).resolve() == lineage.base_folder.resolve()
            or judging["model"] == training["location"]
        ):
            judging["model"] = lineage.base.repository
    return public


def public_recipe(folder: Path, base: Reference) -> dict[str, Any]:
    """The recipe of a trained folder, with the names of local files in place of their paths, and the base that was trained on."""
    recipe = public_values(load_recipe(folder / RECIPE))
    if not recipe["base"]["model"].startswith(TOY_PREFIX):
        recipe["base"] |= {"model": base.repository, "revision": base.revision}
    return recipe


def toy_base_card(folder: Path, repository: str, licence: str) -> Card:
    """The card of a base that was made on the spot."""
    front = {"license": licence, "language": ["ko"], "library_name": "transformers", "tags": ["kollm", "toy"]}
    if licence == "other":
        front["license_name"] = "mixed-by-part"
    about = {**read_object(folder / TOY), "config": read_object(folder / "config.json")}
    text = render_template(
        "toy_base.md.jinja",
        f"the base '{folder}'",
        front_matter=to_yaml(front),
        name=repository.partition("/")[2],
        repository=repository,
        about=about,
        kollm=__version__,
    )
    return Card(text, {})


def eval_results(report: Mapping[str, Any], evaluation: Reference) -> bytes:
    """`.eval_results` YAML: an entry for each axis of the adapter's judgings, with its interval in the notes."""
    entries = []
    for judging in report["judgings"]:
        for system in judging["systems"]:
            if system["system"] != "adapter":
                continue
            for key, axis in system["axes"].items():
                if axis["mean"] is None:
                    continue
                low, high = axis["ci95"] or (axis["mean"], axis["mean"])
                entries.append(
                    EvalResultEntry(
                        dataset_id=evaluation.repository,
                        dataset_revision=evaluation.revision,
                        task_id=f"{judging['rubric']}.{key}",
                        value=axis["mean"],
                        notes=f"judge {judging['model'] or 'local'}, mode {judging['mode']}, rubric {judging['rubric_sha256']}, "
                        f"95% interval {low:.3f} to {high:.3f}, {axis['n_scored']} of {axis['n']} scored",
                    )
                )
    return to_yaml(eval_result_entries_to_yaml(entries)).encode("utf-8") + b"\n"


def _front_matter(kind: str, recipe: Mapping[str, Any], lineage: Lineage) -> dict[str, Any]:
    front: dict[str, Any] = {
        "license": lineage.licence,
        "language": ["ko"],
        "library_name": "peft" if kind == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["kollm", "korean", "instruction-tuning", recipe["adapter"]["method"]],
    }
    if not lineage.base.repository.startswith(TOY_PREFIX):
        front["base_model"] = lineage.base.repository
        front["base_model_relation"] = "adapter" if kind == "adapter" else "finetune"
    if lineage.licence == "other":
        front["license_name"] = "mixed-by-part"
    if lineage.dataset is not None:
        front["datasets"] = [lineage.dataset.repository]
    return front


def _settings(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Key, value and origin of each value of a recipe that says something."""
    origins = recipe["origins"]
    for section in SHOWN_SECTIONS:
        values = recipe[section]
        flat = (
            {section: values}
            if not isinstance(values, Mapping)
            else {f"{section}.{key}": v for key, v in values.items()}
        )
        for key, value in flat.items():
            beside = key in _OF_ADAPTION_PROMPT and recipe["adapter"]["method"] != "adaption_prompt"
            if section == "data" and recipe["data"].get("dataset"):
                beside = beside or key.removeprefix("data.") not in ("dataset", *SPLIT_KEYS)
            if value not in (None, [], {}, "") and not beside:
                yield key, _inline(value), origins.get(key, origins.get(section, ""))


def _shares(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of the training rows with their shares; none where there is one part alone."""
    parts = metrics.get("shares") or {}
    if len(parts) < 2:
        return []
    whole = {key: max(sum(part[key] for part in parts.values()), 1) for key in ("rows", "tokens")}
    return [
        {"name": name, **part, **{f"{key}_share": f"{part[key] / total:.1%}" for key, total in whole.items()}}
        for name, part in parts.items()
    ]


def _learning(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was answered during training, as cells of a table."""
    return [
        {"step": row["step"], **{key: table_cell(row.get(key) or "-")[:400] for key in ("question", "response")}}
        for row in metrics.get("samples") or ()
    ]


def _method(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """The preference method with its own settings; None for supervised fine-tuning."""
    name = recipe["method"]
    if name == "sft":
        return None
    method = METHODS[name]
    return {"title": method.title, "paper": method.paper, "settings": method_settings(name, recipe["trainer"])}


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").strip().replace("|", "\\|")


def _limits(recipe: Mapping[str, Any], report: Mapping[str, Any] | None) -> Iterator[str]:
    if recipe["base"]["model"].split("/")[0] == "EleutherAI":
        yield (
            "In memory, GPT-NeoX's output layer is called `embed_out` in transformers 4 and `lm_head` in transformers 5; on disk it is "
            "`embed_out` for both. An adapter on `query_key_value` does not touch it and loads in both."
        )
    for answers in report["answers"] if report is not None else ():
        if answers["system"] == "adapter":
            cut, mute = answers["flags"]["truncated"], answers["flags"]["no_hangul"]
            yield (
                f"Of its {counted(answers['n'], 'evaluation answer')}, {cut['n']} were cut off at the length limit and {mute['n']} held no Hangul."
            )


def _licence_text(lineage: Lineage) -> str:
    parts = "; ".join(f"{name}: {licence}" for name, licence in lineage.licence_parts.items())
    if lineage.licence == "other":
        return f"Its parts have no common licence, so that each one's terms apply: {parts}."
    return f"{lineage.licence}, the strictest of its parts: {parts}."


def _curve(metrics: Mapping[str, Any], folder: Path) -> bytes:
    """The training loss by step, as a PNG image.

    Raises:
        InputError: metrics.json holds no history.
    """
    points = [(entry["step"], entry["loss"]) for entry in metrics.get("history") or () if "loss" in entry]
    if not points:
        raise InputError(
            f"The card of '{folder}' needs the training loss and metrics.json has no history - train it again."
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([step for step, _ in points], [loss for _, loss in points], color="#2b5c8a", label="training")
    if measured := [(row["step"], row["loss"]) for row in metrics.get("evaluations") or ()]:
        axes.plot([step for step, _ in measured], [loss for _, loss in measured], color="#b3541e", label="held out")
        axes.legend(frameon=False)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)" if measured else "training loss (nats a token)")
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
    return image.getvalue()
