"""Trackers, each for real in its offline form: what they hold is the losses and the recipe, and nothing of this machine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kollm.core.errors import RecipeError
from kollm.hub.publication import KINDS as PUBLISHED
from kollm.hub.publication import gather
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import Recipe
from kollm.train.checkpoints import training_files
from kollm.train.trackers import Trackers, wanted_trackers

KEY = "wb" + "aB3dE5gH7jK9mN1pQ4sT6vW8xY0zA2cE4fG6hJ8k"
LOSSES = {1: 3.0, 2: 2.5, 3: 2.25, 4: 2.125}


def recipe(base: Path, names: Any) -> Recipe:
    trainer = {"report_to": names, "learning_rate": 1e-3}
    return parse_recipe({"name": "mine", "base": {"model": str(base)}, "trainer": trainer}, "test")


def train(trackers: Trackers, first: int, last: int) -> None:
    """What transformers tells its callbacks of the steps after `first`."""
    arguments = SimpleNamespace(run_name=None, hub_token=KEY, output_dir="/somewhere")
    state = SimpleNamespace(global_step=first, is_world_process_zero=True)
    trackers.on_train_begin(arguments, state, None)
    for state.global_step in range(first + 1, last + 1):
        trackers.on_log(arguments, state, None, {"loss": LOSSES[state.global_step], "epoch": 0.1})
        if state.global_step % 2 == 0:
            trackers.on_log(arguments, state, None, {"eval_loss": LOSSES[state.global_step] + 1})
    trackers.on_log(arguments, state, None, {"train_runtime": 3.0})
    trackers.on_train_end(arguments, state, None)


def read_tensorboard(output: Path) -> tuple[dict[int, float], dict[int, float], str]:
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(output / "tensorboard")).Reload()
    text = b"".join(value for item in events.Tensors("recipe/text_summary") for value in item.tensor_proto.string_val)
    loss, held = ({event.step: event.value for event in events.Scalars(name)} for name in ("loss", "eval_loss"))
    return loss, held, text.decode()


def read_mlflow(output: Path) -> tuple[dict[int, float], dict[int, float], str]:
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient((output / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("kollm")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "adapter"
    assert run.info.status == "FINISHED"
    histories = (client.get_metric_history(run.info.run_id, name) for name in ("loss", "eval_loss"))
    loss, held = ({point.step: point.value for point in history} for history in histories)
    return loss, held, str(run.data.params)


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format (blocks of 32 KiB, parts of a header of 7 bytes), after 7 bytes."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield whole
            whole = b""


def read_wandb(output: Path) -> tuple[dict[int, float], dict[int, float], str]:
    """The records of all parts of the run; an offline run that is gone on with has a file for each."""
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    found: dict[str, dict[int, float]] = {"loss": {}, "eval_loss": {}}
    config, runs = "", set()
    for path in sorted((output / "wandb").glob("offline-run-*/run-*.wandb")):
        runs.add(path.name)
        for data in log_records(path.read_bytes()):
            item = record()
            item.ParseFromString(data)
            values = {"/".join(entry.nested_key) or entry.key: entry.value_json for entry in item.history.item}
            for name in found.keys() & values.keys():
                found[name][int(values["_step"])] = float(values[name])
            config += "".join(f"{entry.key}={entry.value_json} " for entry in item.run.config.update)
            assert item.run.project in ("", "kollm")
    assert len(runs) == 1, "one run, however often it was gone on with"
    return found["loss"], found["eval_loss"], config


AT_NIGHT = pytest.mark.nightly(
    "tests/train/test_trackers.py::test_a_tracker_holds_the_losses_and_nothing_of_this_machine"
)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tensorboard", read_tensorboard),
        pytest.param("mlflow", read_mlflow, marks=AT_NIGHT),
        pytest.param("wandb", read_wandb, marks=AT_NIGHT),
    ],
)
def test_a_tracker_holds_the_losses_and_nothing_of_this_machine(
    name: str,
    read: Callable[[Path], tuple[dict[int, float], dict[int, float], str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    output, base = tmp_path / "adapter", tmp_path / "bases" / "my-base"
    (output / "checkpoints").mkdir(parents=True)
    base.mkdir(parents=True)
    monkeypatch.chdir(base)
    for first, last in ((0, 3), (2, 4)):  # the second is resumed from a checkpoint at 2: the third step comes again
        train(Trackers(recipe(base, name), output), first, last)
        if name == "wandb":  # its service writes the rest when the process ends
            importlib.import_module(name).teardown()
    loss, held, told = read(output)
    assert loss == LOSSES
    assert held == {2: 3.5, 4: 3.125}
    assert "adapter.r" in told and "my-base" in told and "0.001" in told
    assert str(tmp_path) not in told
    assert list(base.iterdir()) == [], "nothing is written into the working directory"
    uploaded = [path for path in output.rglob("*") if path.is_file() and path.name != "meta.yaml" and "logs" not in path.parts and not path.name.startswith("debug")]  # fmt: skip
    for path in uploaded:
        content = path.read_bytes()
        for secret in (KEY, str(tmp_path), "/somewhere"):
            assert secret.encode() not in content, (path, secret)
    ours = set(training_files(output))
    assert {path.relative_to(output).as_posix() for path in uploaded if "checkpoints" not in path.parts} <= ours


def test_none_is_told_unless_it_is_named(tmp_path: Path) -> None:
    for names in (None, "none", "trackio", ["trackio"]):
        assert wanted_trackers(recipe(tmp_path, names) if names else recipe(tmp_path, [])) == []
        trackers = Trackers(recipe(tmp_path, names or []), tmp_path / "out")
        train(trackers, 0, 2)
        assert not (tmp_path / "out").exists()
    assert wanted_trackers(recipe(tmp_path, ["mlflow", "tensorboard"])) == ["tensorboard", "mlflow"]


def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kollm.train.trackers.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"names wandb, which is not installed - install it \(pip install wandb\)"):
        wanted_trackers(recipe(tmp_path, "wandb"))
    assert wanted_trackers(recipe(tmp_path, "all")) == []


def test_what_trackers_wrote_is_not_published_with_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    for name in ("tensorboard/events.out.tfevents.1", "wandb/run/x.wandb", "mlruns/0/meta.yaml", "outbox/sent.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    publication = gather(PUBLISHED["adapter"], tmp_path, "maker/x")
    assert set(publication.files) == {"adapter_config.json"}
    assert len(publication.left_out) == 4
