"""The loop in small: samples of training prompts, their verdicts, pairs, another adapter, and three systems in one report.

A base of one layer and two steps of each training: what is tested here is the way, not what is learned.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kollm.core.errors import RecipeError
from kollm.core.files import read_json, read_jsonl
from kollm.dataset.preferences import read_preferences
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from kollm.run.checks import check_run
from kollm.run.journal import planned, run_recipe
from kollm.run.stage import RunOptions
from tests.processes import Starter, finish, kill_once_there

LOOP = """
extends: demo
base: {toy: {hidden_size: 32, layers: 1, heads: 2, vocab_size: 600, context: 2048, pretrain_steps: 4}}
trainer: {max_steps: 2, save_steps: 1}
generation: {max_new_tokens: 8}
judge: {engine: rules, rubric: RUBRIC}
preference: {samples: 3, prompts: 12, margin: 0.1, allow_cut: true, trainer: {max_steps: 2, learning_rate: 1e-3, save_steps: 1}, global_batch_size: 4}
data: {holdout: 0.2}
"""
RUBRIC = """
name: short
language: ko
axes:
- {key: short, label: 짧음, kind: rules, rules: [{rule: max_characters, value: 12}, {rule: max_characters, value: 16}, {rule: max_characters, value: 20}, {rule: max_words, value: 2}]}
"""
STAGES = ["dataset", "evaluation", "base", "adapter", "samples", "sample_verdicts", "pairs", "preferred", "answers", "verdicts", "report"]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "short.yaml").write_text(RUBRIC, encoding="utf-8")
    (folder / "loop.yaml").write_text(LOOP.replace("RUBRIC", str(folder / "short.yaml")), encoding="utf-8")
    return load_recipe(folder / "loop.yaml")


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "loop"
    run_recipe(recipe, RunOptions(folder=folder, limit=20))
    return folder


@pytest.mark.slow
def test_samples_become_pairs_and_three_systems_answer(whole: Path) -> None:
    stages = read_json(whole / "run.json")["stages"]
    assert list(stages) == sorted(STAGES)
    samples = list(read_jsonl(whole / "samples" / "generations.jsonl"))
    assert len(samples) == 36 and {row["system"] for row in samples} == {"adapter"}
    trained = {row["id"] for row in samples}
    assert len(trained) == 12 and not any(name.startswith("human_eval") for name in trained)
    pairs = list(read_preferences(whole / "pairs"))
    assert pairs and {pair.provenance.task for pair in pairs} <= trained
    assert all((pair.provenance.margin or 0) > 0.1 and pair.chosen != pair.rejected for pair in pairs)
    assert {pair.provenance.rubric for pair in pairs} == {"short"} and all(pair.licence for pair in pairs)
    systems = [row["system"] for row in read_jsonl(whole / "generations.jsonl")]
    assert list(dict.fromkeys(systems)) == ["adapter", "base", "dpo"]
    assert stages["preferred"]["result"]["summary"].startswith("dpo from the adapter")
    weights = [load_file(whole / name / "adapter_model.safetensors") for name in ("adapter", "preferred")]
    assert any(not torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


SAME = (
    "adapter/adapter_model.safetensors",
    "samples/generations.jsonl",
    "samples/verdicts.jsonl",
    "pairs/manifest.json",
    "preferred/adapter_model.safetensors",
    "generations.jsonl",
    "verdicts.jsonl",
)
"""Files that a run which was cut off ends with, byte for byte."""
INTERRUPTIONS: list[tuple[str, str]] = [
    ("samples", "kollm.answer.local._decode"),
    ("sample_verdicts", "kollm.judge.run.verdict_of"),
    ("pairs", "kollm.dataset.pairs.make.preference_table"),
    ("preferred", "kollm.run.preferences.train_into"),
    ("answers", "kollm.answer.local._decode"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "place"), INTERRUPTIONS)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    stage: str, place: str, whole: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "loop"
    shutil.copytree(whole, folder)
    options = RunOptions(folder=folder, limit=20)
    module, _, name = place.rpartition(".")
    calls = 0

    def stopped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 or stage in ("pairs", "preferred"):
            raise KeyboardInterrupt
        return found(*arguments, **named)

    found: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    monkeypatch.setattr(place, stopped)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, options, restart=stage)
    monkeypatch.setattr(place, found)
    run_recipe(recipe, options)
    for file in SAME:
        assert (folder / file).read_bytes() == (whole / file).read_bytes()


KILLED_AT = (
    ("adapter/checkpoints/*/complete.json", "adapter/training.json"),
    ("samples/generations.jsonl*",),
    ("samples/verdicts.jsonl",),
    ("preferred/checkpoints/*/complete.json", "preferred/training.json"),
    ("generations.jsonl*",),
)
"""Files that there are from then on, or from a little later."""


@pytest.mark.nightly("tests/run/test_preferences.py::test_a_run_that_was_cut_off_goes_on_to_the_same_bytes")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_five_moments_it_ends_the_same(
    whole: Path, recipe: Recipe, tmp_path: Path, training_starter: Starter
) -> None:
    folder, file = tmp_path / "loop", tmp_path / "loop.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    command = ["run", file, "-o", folder, "--limit", "20"]
    for begun in KILLED_AT:
        process = training_starter.start(command, tmp_path, {})
        kill_once_there(process, folder, *begun)
    finish([training_starter.start(command, tmp_path, {})])
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_a_changed_key_of_the_step_is_named_and_begins_again_there(whole: Path, recipe: Recipe, tmp_path: Path) -> None:
    options = RunOptions(folder=whole, limit=20)
    step = recipe.preference
    assert step is not None
    changed = recipe.model_copy(update={"preference": step.model_copy(update={"margin": 0.3})})
    with pytest.raises(Exception, match=r"preference\.margin = 0\.1, now it is 0\.3 .*--restart pairs"):
        run_recipe(changed, options)
    assert [name for name, _ in planned(recipe, options)] == STAGES
    assert [state for _, state in planned(recipe, options, "pairs")] == ["done"] * 6 + ["to do"] * 5


def test_what_would_stop_the_step_is_found_before_the_first_stage(recipe: Recipe) -> None:
    kept = recipe.model_copy(update={"data": recipe.data.model_copy(update={"leaks": "keep"})})
    assert any(
        "data.leaks is keep, and pairs that hold an evaluation task are refused" in fault
        for fault in check_run(kept).faults
    )
    full = recipe.model_copy(update={"adapter": recipe.adapter.model_copy(update={"method": "full"})})
    assert any("the start and the reference" in fault for fault in check_run(full).faults)
    with pytest.raises(RecipeError, match=r"preference\.agreement"):
        load_recipe("demo", ["preference={agreement: 0.2}"])


@pytest.mark.slow
def test_the_report_is_of_all_steps(whole: Path) -> None:
    report = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    assert {row["system"] for row in report["answers"]} == {"adapter", "base", "dpo"}
    assert len(report["judgings"][0]["comparisons"]) == 3
