"""The main job in small: the demo recipe with a base of one layer, so that a run is mostly starting processes."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kollm.core.errors import InputError, RecipeError, StateError
from kollm.core.files import read_json, read_jsonl
from kollm.core.lock import folder_lock
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from kollm.run.journal import planned, run_recipe
from kollm.run.stage import Run, RunOptions, StageResult
from kollm.run.stages import STAGES
from tests.processes import Starter, finish, kill_once_there

TINY = [
    "base.toy={hidden_size: 32, layers: 1, heads: 2, vocab_size: 600, context: 2048, pretrain_steps: 4}",
    "trainer.max_steps=2",
    "trainer.save_steps=1",
    "generation.max_new_tokens=4",
]
LIMIT = 30


def tiny(*overrides: str) -> Recipe:
    return load_recipe("demo", [*TINY, *overrides])


def command(folder: Path, *extra: str) -> list[str]:
    sets = [part for value in TINY for part in ("--set", value)]
    return [sys.executable, "-m", "kollm", "run", "demo", "-o", str(folder), "--limit", str(LIMIT), *sets, *extra]


def run(folder: Path, *extra: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(folder, *extra), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, training_starter: Starter) -> Path:
    folder = tmp_path_factory.mktemp("run") / "demo"
    assert "report.html" in finish([training_starter.start(command(folder)[3:], folder.parent, {})])
    return folder


def same_dataset(first: Path, second: Path) -> bool:
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file() and path.name != "run.json")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


@pytest.mark.slow
def test_a_run_makes_every_file_of_the_contract(whole: Path) -> None:
    for name in ("dataset/manifest.json", "adapter/adapter_model.safetensors", "report.html", "report.json"):
        assert (whole / name).is_file()
    journal = read_json(whole / "run.json")
    assert journal["toy"] is True
    assert [stage["status"] for stage in journal["stages"].values()] == ["done"] * 7
    systems = [(row["system"], row["model"]) for row in read_jsonl(whole / "generations.jsonl")]
    assert systems == [("adapter", "toy:gpt_neox")] * 24 + [("base", "toy:gpt_neox")] * 24
    verdicts = list(read_jsonl(whole / "verdicts.jsonl"))
    assert len(verdicts) == 48
    assert {verdict["status"] for verdict in verdicts} == {"ok"}
    assert str(whole) not in (whole / "report.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_running_again_skips_every_stage_and_says_so(whole: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file() and path.name != ".kollm.lock"
    }
    done = run(whole)
    assert done.stderr.count("done before, skipped") == 7
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_a_changed_key_stops_the_run_and_is_named(whole: Path) -> None:
    options = RunOptions(folder=whole, limit=LIMIT)
    with pytest.raises(StateError, match=r"adapter\.r = 16, now it is 8 .*--restart adapter"):
        run_recipe(tiny("adapter.r=8"), options)
    with pytest.raises(StateError, match=r"generation\.max_new_tokens = 4, now it is 5"):
        run_recipe(tiny("generation.max_new_tokens=5"), options)
    with pytest.raises(StateError, match="limit = 30, now it is 10"):
        run_recipe(tiny(), RunOptions(folder=whole, limit=10))


@pytest.mark.slow
def test_restart_begins_again_from_a_stage(whole: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "demo"
    shutil.copytree(whole, copy)
    options = RunOptions(folder=copy, limit=LIMIT)
    states = [state for _, state in planned(tiny(), options, "verdicts")]
    assert states == ["done"] * 5 + ["to do"] * 2
    run_recipe(tiny("judge.rubric=kullm2023-fixed"), options, restart="verdicts")
    verdicts = list(read_jsonl(copy / "verdicts.jsonl"))
    assert {verdict["rubric"] for verdict in verdicts} == {"kullm2023-fixed"}
    assert len(verdicts) == 48
    assert (copy / "generations.jsonl").read_bytes() == (whole / "generations.jsonl").read_bytes()


@pytest.mark.slow
def test_one_example_can_be_followed(whole: Path) -> None:
    def show(example: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kollm", "show", example, "-o", str(whole)], capture_output=True, text=True
        )
        assert done.returncode == code
        return done.stdout + done.stderr

    task = show("human_eval-sample_task_0")
    for title in (
        "source row (English)",
        "record in evaluation/human-eval",
        "### 지시어:",
        "answer of adapter",
        "verdict on base",
    ):
        assert title in task
    assert "Error: No stage" in show("nobody-0", code=1)


@pytest.mark.slow
def test_a_copied_work_folder_answers_with_its_own_base(whole: Path, tmp_path: Path) -> None:
    import shutil

    from kollm.answer.local import load_system

    shutil.copytree(whole, tmp_path / "copy")
    system = load_system(str(tmp_path / "copy" / "adapter"))
    assert system.model == str((tmp_path / "copy" / "base").resolve())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_in_training_and_in_answering_it_ends_the_same(
    whole: Path, tmp_path: Path, training_starter: Starter
) -> None:
    """`benchmarks/kills.py` does it at a hundred random moments, to one process or to all of them."""
    folder = tmp_path / "demo"
    # Should this process sleep too long, the run is killed a little later.
    for begun in (["adapter/checkpoints/*/complete.json", "adapter/training.json"], ["generations.jsonl*"]):
        process = training_starter.start(command(folder)[3:], tmp_path, {})
        kill_once_there(process, folder, *begun)
    finish([training_starter.start(command(folder)[3:], tmp_path, {})])
    assert same_dataset(whole / "dataset", folder / "dataset")
    for name in ("generations.jsonl", "adapter/adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    keys = [
        sorted(json.dumps(row, sort_keys=True) for row in read_jsonl(place / "verdicts.jsonl"))
        for place in (whole, folder)
    ]
    assert keys[0] == keys[1]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kollm.run.journal.folder_lock", functools.partial(folder_lock, patience=0))
    with (
        folder_lock(tmp_path),
        pytest.raises(
            StateError, match=rf"Another kollm process \(.*process {os.getpid()}, since .*is at work in '{tmp_path}'"
        ),
    ):
        run_recipe(tiny(), RunOptions(folder=tmp_path))


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no stage 'training'"):
        run_recipe(tiny(), RunOptions(folder=tmp_path), restart="training")
    with pytest.raises(RecipeError, match=r"data\.sources is empty"):
        run_recipe(tiny("data.sources=[]"), RunOptions(folder=tmp_path / "a"))
    with pytest.raises(RecipeError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        run_recipe(tiny(), RunOptions(folder=tmp_path / "file"))
    with pytest.raises(RecipeError, match="nowhere"):
        run_recipe(tiny(), RunOptions(folder=tmp_path / "b", dataset=str(tmp_path / "nowhere")))


def test_changed_new_tokens_are_another_adapter_and_a_missing_file_is_named(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    stage = next(stage for stage in STAGES if stage.name == "adapter")
    run = Run(
        tiny(f"base.new_tokens={tokens}"), RunOptions(tmp_path), {"dataset": StageResult("dataset", "", "sha256:0")}
    )
    with pytest.raises(InputError, match=r"The file of new tokens '.*tokens\.txt' does not exist"):
        stage.inputs(run)
    tokens.write_text("한글날\n", encoding="utf-8")
    before = stage.inputs(run)
    tokens.write_text("단풍놀이\n", encoding="utf-8")
    assert before != stage.inputs(run)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        '{"recipe": {"name": "other"}, "stages": {"dataset": {"status": "running", "inputs": {}}}}'
    )
    with pytest.raises(StateError, match="holds a run of the recipe 'other'"):
        run_recipe(tiny(), RunOptions(folder=tmp_path))


def test_only_a_toy_that_nobody_asked_to_launch_trains_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {"dataset": StageResult(str(tmp_path), ""), "base": StageResult(str(tmp_path), "")}
    here: list[str] = []

    def note(how: str) -> None:
        here.append(how)
        raise StateError("enough")

    monkeypatch.setattr("kollm.run.training.check_launch", lambda *_, **__: None)
    monkeypatch.setattr("kollm.run.training.launch", lambda _: note("launched"))
    monkeypatch.setattr("kollm.train.job.train_recipe", lambda *_, **__: note("here"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    adapter = next(stage for stage in STAGES if stage.name == "adapter")
    real = tiny("base.model=EleutherAI/polyglot-ko-1.3b", "base.toy=null")
    for recipe, options in (
        (tiny(), RunOptions(tmp_path)),
        (tiny(), RunOptions(tmp_path, config="cpu")),
        (tiny(), RunOptions(tmp_path, processes=2)),
        (real, RunOptions(tmp_path)),
    ):
        with pytest.raises(StateError, match="enough"):
            adapter.work(Run(recipe, options, results))
    assert here == ["here", "launched", "launched", "launched"]
