"""TensorBoard, Weights & Biases and MLflow, each where `trainer.report_to` names it, with what they may be told.

transformers' own callbacks send every training argument and the model's configuration, paths of this machine among them.
These send losses, the learning rate and the recipe without its paths, and write beside the adapter. A resumed training
goes on in its run.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from transformers import TrainerCallback

from kollm.core.errors import RecipeError
from kollm.core.files import ensure_folder, read_object, write_json
from kollm.recipe.public import public_values
from kollm.recipe.schema import SPLIT_KEYS, TRAINED_KEYS, Recipe
from kollm.train.checkpoints import CHECKPOINTS, MLFLOW, RUNS, TENSORBOARD, WANDB

PROJECT = "kollm"


class Start(NamedTuple):
    """What a run begins with.

    Attributes:
        folder: where a tracker of this machine writes.
        name: of the run.
        values: the recipe by dotted key, without paths.
        step: the last step that was done, 0 at the beginning.
        run: the tracker's own id of the run that is gone on with; None for a new one.
    """

    folder: Path
    name: str
    values: Mapping[str, Any]
    step: int
    run: str | None


class Run(Protocol):
    """A run of one tracker."""

    id: str

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def finish(self) -> None: ...


class _TensorBoard:
    """Events under `OUT/tensorboard`; those after the checkpoint that is resumed from are taken back."""

    id = TENSORBOARD

    def __init__(self, start: Start) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(start.folder), purge_step=start.step + 1 if start.step else None)
        if not start.step:
            rows = "\n".join(f"| {key} | {value} |" for key, value in start.values.items())
            self._writer.add_text("recipe", f"| key | value |\n|---|---|\n{rows}", 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of W&B, which takes project, entity and mode from its own variables (`WANDB_PROJECT`, `WANDB_MODE`)."""

    def __init__(self, start: Start) -> None:
        wandb = importlib.import_module("wandb")
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,  # machine, user, command line and working directory stay here
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=None if wandb.setup().settings.project else PROJECT,
            name=start.name,
            dir=str(start.folder.parent),  # it makes its own folder there
            config=dict(start.values),
            id=start.run,
            resume="allow" if start.run else None,
            settings=settings,
        )
        self.id = str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()


class _Mlflow:
    """A run of MLflow: in `MLFLOW_TRACKING_URI`, else under `OUT/mlruns`."""

    def __init__(self, start: Start) -> None:
        mlflow = importlib.import_module("mlflow")
        self._client = mlflow.MlflowClient(None if mlflow.is_tracking_uri_set() else _local_store(start.folder))
        if start.run is not None:
            self.id = start.run
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.id = str(self._client.create_run(experiment, run_name=start.name).info.run_id)
        for key, value in start.values.items():
            self._client.log_param(self.id, key, str(value)[:6000])

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, name, value, step=step)

    def finish(self) -> None:
        self._client.set_terminated(self.id)


def _local_store(folder: Path) -> str:
    """A database in a folder; plain files there for mlflow-skinny, which has no database.

    MLflow 3.17 wants to hear that plain files are meant.
    """
    ensure_folder(folder)
    if find_spec("sqlalchemy") is not None:
        return f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return folder.absolute().as_uri()


class _Kind(NamedTuple):
    """A tracker: what it needs installed, its folder beside the adapter, and what begins a run."""

    package: str
    folder: str
    start: Callable[[Start], Run]


KINDS: dict[str, _Kind] = {
    "tensorboard": _Kind("tensorboard", TENSORBOARD, _TensorBoard),
    "wandb": _Kind("wandb", WANDB, _Wandb),
    "mlflow": _Kind("mlflow", MLFLOW, _Mlflow),
}


def wanted_trackers(recipe: Recipe) -> list[str]:
    """Those of KINDS that the recipe names; of `all`, those that are installed.

    Raises:
        RecipeError: one is named and not installed.
    """
    said = recipe.trainer.get("report_to") or ()
    names = [said] if isinstance(said, str) else list(said)
    if "all" in names:
        return [name for name, kind in KINDS.items() if find_spec(kind.package) is not None]
    for name in names:
        if name in KINDS and find_spec(KINDS[name].package) is None:
            raise RecipeError(
                f"trainer.report_to names {name}, which is not installed - install it (pip install {KINDS[name].package}), or leave it out."
            )
    return [name for name in KINDS if name in names]


class Trackers(TrainerCallback):  # type: ignore[misc]
    """Tells the recipe's trackers what the first process logs.

    Args:
        recipe: what is trained.
        output: the adapter's folder.
    """

    def __init__(self, recipe: Recipe, output: Path) -> None:
        self._recipe, self._output = recipe, output
        self._names = wanted_trackers(recipe)
        self._runs: list[Run] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._names or not state.is_world_process_zero:
            return
        file = self._output / CHECKPOINTS / RUNS
        before = read_object(file) if state.global_step and file.is_file() else {}
        public = public_values(self._recipe)
        trained = {key: public[key] for key in ("name", *TRAINED_KEYS)}
        values = dict(_dotted({**trained, "data": {key: public["data"][key] for key in SPLIT_KEYS}}))
        name = args.run_name or self._output.absolute().name
        ids = {}
        for tracker in self._names:
            kind = KINDS[tracker]
            start = Start(self._output / kind.folder, name, values, state.global_step, before.get(tracker))
            run = kind.start(start)
            self._runs.append(run)
            ids[tracker] = run.id
        write_json(file, ids)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in numbers or "eval_loss" in numbers:
            for run in self._runs:
                run.log(numbers, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for run in self._runs:
            run.finish()
        self._runs.clear()


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that says something, by its dotted key; trackers take text, numbers and lists of them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        elif value not in (None, "", [], ()):
            yield f"{prefix}{key}", value
