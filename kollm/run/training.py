"""The stages of a run that make weights: the base, and the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.files import file_sha256, require_file
from kollm.core.ownership import write_sealed
from kollm.core.results import read_metrics_file
from kollm.dataset.folder import read_records
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import TRAINED_KEYS, Recipe
from kollm.run.stage import Run, RunOptions, StageResult
from kollm.train.launch import Machine, check_launch, launch, launch_command

RECIPE = "run.recipe.yaml"
"""The recipe that training is launched with; the user's own may lie in the work folder as recipe.yaml."""


def base_inputs(run: Run) -> dict[str, Any]:
    inputs: dict[str, Any] = {"base": run.recipe.base.model_dump(mode="json")}
    if run.recipe.base.is_toy:
        inputs |= {"dataset": run.results["dataset"].fingerprint, "data.holdout": run.recipe.data.holdout}
        inputs |= {"data.holdout_seed": run.recipe.data.holdout_seed}
    return inputs


def find_base(run: Run) -> StageResult:
    base = run.recipe.base
    if not base.is_toy:
        where = "a folder" if Path(base.model).is_dir() else "the Hub"
        location = str(Path(base.model).resolve()) if Path(base.model).is_dir() else base.model
        return StageResult(location=location, summary=f"{base.model} from {where}", details={"revision": base.revision})
    _make_toy_base(run)
    return StageResult(location="base", summary=f"made {base.model} on the spot", details={"revision": None})


def _make_toy_base(run: Run) -> None:
    """Pre-train on the plain text of the training rows: no prompt template, and none of the held-out conversations."""
    from kollm.train.data import split_heldout
    from kollm.train.toy import make_recipe_base

    records = read_records(str(run.location("dataset")))
    rows = split_heldout(records, run.recipe.data.holdout, run.recipe.data.holdout_seed).train
    make_recipe_base(run.recipe, rows, run.folder / "base")


def adapter_inputs(run: Run) -> dict[str, Any]:
    values = run.recipe.model_dump(mode="json", include=set(TRAINED_KEYS) - {"base"})
    # Keys that the run folders of earlier versions do not name.
    later = ("method", "enable_thinking", "early_stopping", "learn_tool_calls")
    tokens = run.recipe.base.new_tokens
    return {
        **{key: value for key, value in values.items() if key not in later or value not in (None, "sft", False)},
        **({"base.new_tokens": file_sha256(require_file(Path(tokens), "The file of new tokens"))} if tokens else {}),
        "dataset": run.results["dataset"].fingerprint,
        "data.holdout": run.recipe.data.holdout,
        "data.holdout_seed": run.recipe.data.holdout_seed,
    }


def train_adapter(run: Run) -> StageResult:
    output = run.folder / "adapter"
    train_into(run, Training(run.recipe, run.folder / RECIPE, str(run.location("dataset")), output))
    metrics = read_metrics_file(output / "metrics.json")
    held = metrics["heldout"]
    loss = f"held-out loss {held['before']:.3f} -> {held['after']:.3f}" if held["rows"] else "no held-out rows"
    return StageResult(
        location="adapter",
        summary=f"{run.recipe.adapter.method} adapter, {loss}",
        fingerprint=file_sha256(output / "training.json"),
        details={"heldout": held},
    )


class Training(NamedTuple):
    """One training of a run.

    Attributes:
        recipe: what is trained how.
        file: where the recipe is written for the process that trains.
        dataset: rows, or pairs.
        output: folder of the adapter.
        start: the adapter that training starts from, and that preferences are held to; None for a fresh one.
    """

    recipe: Recipe
    file: Path
    dataset: str
    output: Path
    start: Path | None = None


def train_into(run: Run, training: Training) -> None:
    """Train in a process of its own, or here what is small."""
    recipe, file, dataset, output, start = training
    write_sealed(file, recipe_yaml(recipe))
    machine = machine_of(run.options)
    base = Path(run.location("base")) if recipe.base.is_toy else None
    check_launch(recipe, dataset, config=machine.config, base=base, output=output)
    if _is_small(run, machine):
        from kollm.train.job import train_recipe

        train_recipe(load_recipe(str(file)), dataset, output, base=base, start=start)
        return
    command = launch_command(file, dataset, output, machine, base=base)
    launch([*command, *(["--start", str(start)] if start is not None else [])])


def _is_small(run: Run, machine: Machine) -> bool:
    """Whether to train in this process, which has torch loaded already: a launcher and its child would load it twice more.

    A real base gets a process of its own, whose end for want of memory this one outlives and explains.
    """
    return run.recipe.base.is_toy and run.options.config is None and machine in (Machine("cpu"), Machine("cpu", 1))


def machine_of(options: RunOptions) -> Machine:
    """What trains: what the user says, else what this machine has."""
    if options.config is not None:
        return Machine(options.config, options.processes)
    import torch

    gpus = torch.cuda.device_count()
    if gpus == 0:
        return Machine("cpu", options.processes)
    return Machine("single_gpu") if gpus == 1 else Machine("ddp_4gpu", options.processes or gpus)


def recipe_yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
