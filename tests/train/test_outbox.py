"""Checkpoints that are set aside to be published: whole, in order, and no file of the optimizer's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kollm.core.files import read_json, write_json
from kollm.core.ownership import is_sealed, own_files
from kollm.train.checkpoints import keep_newest
from kollm.train.outbox import Outbox, waiting


def checkpoint(output: Path, step: int) -> None:
    folder = output / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (output / "recipe.yaml").write_text("name: x\n", encoding="utf-8")
    for name in ("adapter_config.json", "tokenizer.json", "trainer_state.json", "chat_template.jinja", "README.md"):
        (folder / name).write_text("{}", encoding="utf-8")
    for name in ("adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(f"{name}{step}".encode())
    write_json(folder / "complete.json", {"step": step, "files": {}})


def state(step: int, *, main: bool = True) -> SimpleNamespace:
    history = [{"step": n, "loss": 9.0 - n} for n in range(1, step + 1)] + [{"step": step, "train_runtime": 3}]
    return SimpleNamespace(global_step=step, max_steps=6, is_world_process_zero=main, log_history=history)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    about = {"recipe": {"prompt": "chat"}, "prompt": "chat"}
    metrics = {"rows": {"train": 3}, "tokens": {"total": 9}, "heldout": {"rows": 2}}
    return Outbox(tmp_path, lambda folder: {**about, "location": f"{folder.name}/base"}, metrics)


def test_a_checkpoint_is_an_adapter_of_its_own(outbox: Outbox, tmp_path: Path) -> None:
    for step in (10, 2):
        checkpoint(tmp_path, step)
        outbox.on_save(None, state(step), None)
    keep_newest(tmp_path, 1)
    assert [folder.name for folder in waiting(tmp_path)] == ["step-2", "step-10"], "by step, not by name"
    folder = tmp_path / "outbox" / "step-2"
    names = {path.name for path in folder.iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json"}
    assert names == {*adapter, "metrics.json", "recipe.yaml", "training.json"}
    assert (folder / "adapter_model.safetensors").read_bytes() == b"adapter_model.safetensors2"
    training = read_json(folder / "training.json")
    assert (training["checkpoint"], training["location"]) == ({"step": 2, "of": 6}, "step-2/base")
    assert is_sealed(folder / "training.json")
    assert set(own_files(folder) or {}) == names
    metrics = read_json(folder / "metrics.json")
    assert [entry["step"] for entry in metrics["history"]] == [1, 2]
    assert metrics["heldout"]["rows"] == 0


def test_a_resumed_training_sets_aside_what_was_not_sent(outbox: Outbox, tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    outbox.on_train_begin(None, state(4, main=False), None)
    assert waiting(tmp_path) == []
    outbox.on_train_begin(None, state(4), None)
    assert [folder.name for folder in waiting(tmp_path)] == ["step-4"]
    for path in (tmp_path / "outbox" / "step-4").iterdir():
        path.unlink()
    (tmp_path / "outbox" / "step-4").rmdir()
    write_json(tmp_path / "outbox" / "sent.json", {"steps": [4]})
    outbox.on_train_begin(None, state(4), None)
    assert waiting(tmp_path) == []


def test_sharded_weights_are_not_set_aside(outbox: Outbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path, 4)
    (tmp_path / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors").unlink()
    outbox.on_save(None, state(4), None)
    assert waiting(tmp_path) == []
    assert "checkpoint 4 is not set aside to be pushed" in capsys.readouterr().err
