"""After twenty steps a training says how long it takes, beside what the plan promised."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kollm.core.files import read_json
from kollm.recipe.bases import BASES
from kollm.recipe.load import load_recipe
from kollm.train import forecast as forecasting
from kollm.train.batches import Layout, RunLength, StepBatches
from kollm.train.forecast import STEPS, Forecast, Promise, promise
from kollm.train.job import train_recipe


def batches() -> StepBatches:
    layout = Layout(global_batch=4, processes=1, device_batch=4, max_length=64, packed=True, seed=0)
    return StepBatches([10] * 40, layout, RunLength(10.0, -1), [5] * 40)


def test_the_rest_is_told_by_the_speed_of_all_steps_but_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((100.0, 119.0))  # after the first step, and nineteen seconds later
    monkeypatch.setattr(forecasting, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    told = Forecast(batches(), Promise(50.0, 2.0**30))
    state = SimpleNamespace(global_step=7, max_steps=100, is_world_process_zero=True)  # resumed
    told.on_train_begin(None, state, None)
    for step in range(8, 8 + STEPS + 5):
        state.global_step = step
        told.on_step_end(None, state, None)
    assert told.said["tokens_per_second"] == 40.0  # nineteen steps of four rows of ten tokens
    assert told.said["hours_left"] == pytest.approx(73 * 40 / 40 / 3600, abs=1e-4)
    assert told.said["difference"] == -0.2
    said = capsys.readouterr().err
    assert "train: 40 tokens a second, about 73 seconds left; the plan said 50 tokens a second (-20%)" in said


def test_the_promise_is_the_plan_of_these_cards_and_none_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, facts = load_recipe("kullm-polyglot-5.8b-fast"), BASES["EleutherAI/polyglot-ko-5.8b"]
    cards = SimpleNamespace(
        device=SimpleNamespace(type="cuda"), num_processes=4, distributed_type=SimpleNamespace(value="FSDP")
    )
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    shared = promise(recipe, facts, cards, 2048)
    cards.distributed_type.value = "MULTI_GPU"
    whole = promise(recipe, facts, cards, 2048)
    assert shared is not None and whole is not None
    assert whole.tokens_per_second == pytest.approx(4 * 18_100, rel=0.02)
    assert shared.memory < whole.memory
    cards.device.type = "cpu"
    assert promise(recipe, facts, cards, 2048) is None


def test_a_run_of_enough_steps_writes_it_down(dataset: Path, base: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_file), [f"trainer.max_steps={STEPS + 1}", "trainer.save_strategy='no'"])
    train_recipe(recipe, str(dataset), tmp_path / "adapter", base=base)
    written = read_json(tmp_path / "adapter" / "metrics.json")["forecast"]
    assert written["steps"] == STEPS and written["tokens_per_second"] > 0
    assert "planned_tokens_per_second" not in written  # a processor is in no table
