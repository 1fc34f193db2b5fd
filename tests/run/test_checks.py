"""What would stop a run is found before its first stage, all of it, in one list, in seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kollm.cli import cli
from kollm.core.errors import InputError, RecipeError
from kollm.dataset.folder import read_records
from kollm.dataset.pipeline import SourceInput, build_dataset
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import TRAINED_KEYS, Recipe
from kollm.run import checks
from kollm.run.checks import check_run, require_runnable
from kollm.run.stage import Run, RunOptions
from kollm.run.stages import STAGES
from kollm.run.training import adapter_inputs
from kollm.sources import SAMPLE


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("DEEPL_AUTH_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["run", *arguments])


def test_the_demo_needs_nothing(tmp_path: Path) -> None:
    started = time.process_time()
    require_runnable(load_recipe("demo"), RunOptions(tmp_path / "demo"))
    assert time.process_time() - started < 10 and not (tmp_path / "demo").exists(), "and leaves nothing"
    assert run("demo", "-o", str(tmp_path / "demo"), "--dry-run").exit_code == 0


FAULTS = [
    ("prompt=kullm-2022", [], "no prompt template 'kullm-2022'"),
    ("judge.rubric=kullm2024", [], "no rubric 'kullm2024'"),
    ("adapter.targets=[]", [], "adapter.targets is empty"),
    ("data.sources=[{name: dollly}]", [], "no source 'dollly'"),
    ("data.sources=[{name: dolly, input: missing.jsonl}]", [], "'missing.jsonl' of the source 'dolly' does not exist"),
    ("data.sources=[{name: dolly, input: sample, memory: ko.jsonl}]", [], "The Korean rows of 'dolly' 'ko.jsonl'"),
    ("data.sources=[{name: dolly, input: sample}, {name: dolly, input: sample}]", [], "names a source twice"),
    ("data.sources=[]", [], "data.sources is empty"),
    ("data.evaluation=null", [], "data.evaluation is not set"),
    ("data.dataset=no/such/folder", [], "There is no"),
    ("data.translator=deepl", [], "DEEPL_AUTH_KEY is not set"),
    ("base.new_tokens=tokens.txt", [], "The file of new tokens 'tokens.txt'"),
    ("judge={engine: openai, rubric: kullm2023}", [], "OPENAI_API_KEY is not set"),
    ("judge={engine: openai, model: my-model}", ["--max-cost", "1"], "No price of the model 'my-model' is known"),
    ("judge={engine: local, model: no/such/model}", [], "no name on the Hub"),
    ("name=demo", ["--eval", "nosuch"], "There is no folder 'nosuch'"),
    ("name=demo", ["--dataset", "nosuch"], "There is no file or folder 'nosuch'"),
    ("name=demo", ["--config", "nosuch"], "There is no accelerate config 'nosuch'"),
    ("name=demo", ["--restart", "nosuch"], "There is no stage 'nosuch'"),
]


@pytest.mark.parametrize(("override", "options", "words"), FAULTS)
def test_each_fault_is_found_before_the_first_stage(
    override: str, options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for dry in ([], ["--dry-run"]):
        result = run("demo", "-o", "out", "--set", override, *options, *dry)
        assert isinstance(result.exception, RecipeError) and words in str(result.exception), result.exception
        assert not (tmp_path / "out" / "dataset").exists()


def test_all_faults_come_in_one_list(tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["prompt=nosuch", "judge.rubric=nosuch", "data.sources=[{name: nosuch}]"])
    with pytest.raises(RecipeError) as caught:
        require_runnable(recipe, RunOptions(tmp_path, evaluation="nosuch", config="nosuch"))
    text = str(caught.value)
    assert text.startswith("5 things would stop this run:\n  - ") and text.count("\n  - ") == 5


def test_what_is_done_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"stages": {"dataset": {"status": "done"}, "verdicts": {"status": "done"}}}')
    recipe = load_recipe("demo", ["data.sources=[{name: nosuch}]", "judge.rubric=nosuch"])
    assert check_run(recipe, RunOptions(tmp_path)).faults == []
    faults = check_run(recipe, RunOptions(tmp_path), restart="verdicts").faults
    assert len(faults) == 1 and "no rubric 'nosuch'" in faults[0]


def test_write_access_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (fault,) = check_run(load_recipe("demo"), RunOptions(tmp_path / "file" / "out")).faults
    assert "cannot be written" in fault
    monkeypatch.setattr(checks, "LEAST_ROOM", 1 << 60)
    (fault,) = check_run(load_recipe("demo"), RunOptions(tmp_path / "out")).faults
    assert "GB free, and the run writes" in fault


def test_recipe_check_finds_names_and_needs_no_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: demo\nprompt: nosuch\ndata: {sources: [{name: nosuch}], translator: deepl}\n")
    result = CliRunner().invoke(cli, ["recipe", "check", str(path)])
    assert isinstance(result.exception, RecipeError)
    assert "no source 'nosuch'" in str(result.exception) and "no prompt template 'nosuch'" in str(result.exception)
    path.write_text("extends: demo\ndata: {translator: deepl}\n")
    assert CliRunner().invoke(cli, ["recipe", "check", str(path)]).exit_code == 0


def test_the_evaluation_set_of_a_run_is_looked_for_in_its_training_data(tmp_path: Path) -> None:
    build_dataset([SourceInput("human_eval", SAMPLE)], output=tmp_path / "tasks", translator="memory")
    build_dataset([SourceInput("dolly", SAMPLE)], output=tmp_path / "clean", translator="memory")
    rows = [
        {"instruction": row.instruction, "input": row.input, "output": row.output}
        for row in read_records(tmp_path / "tasks")
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    build_dataset(
        [SourceInput("koalpaca_v1", tmp_path / "rows.json")],
        output=tmp_path / "leaky",
        leaks="keep",
        filters="none",
        against=(),
    )
    evaluation = str(tmp_path / "tasks")

    def dataset(*overrides: str, given: str | None = None) -> object:
        recipe = load_recipe("demo", overrides)
        return STAGES[0].work(Run(recipe, RunOptions(tmp_path / "out", evaluation=evaluation, dataset=given), {}))

    assert dataset(given=str(tmp_path / "clean"))
    with pytest.raises(
        InputError, match=r"'.*leaky' has .* rows? that holds? a task of human_eval, .*tasks .*data\.leaks=keep"
    ):
        dataset(given=str(tmp_path / "leaky"))
    assert dataset("data.leaks=keep", given=str(tmp_path / "leaky"))
    source = f"data.sources=[{{name: koalpaca_v1, input: {tmp_path / 'rows.json'}}}]"
    with pytest.raises(InputError, match="hold a task of the evaluation set"):
        dataset(source, "data.filters=none")
    assert dataset(source, "data.filters=none", "data.leaks=keep")


@pytest.mark.parametrize("key", [key for key in TRAINED_KEYS if key != "base"])
def test_what_training_depends_on_is_an_input_of_its_stage(key: str) -> None:
    """A changed value of it trains anew, naming the key."""
    changed: dict[str, Any] = {
        "method": "dpo", "prompt": "plain", "enable_thinking": True, "early_stopping": 2, "adapter": {"r": 3}, "quantization": "nf4",
        "trainer": {"seed": 7}, "global_batch_size": 3, "loss": "all", "attention": "eager", "learn_tool_calls": True,
    }  # fmt: skip
    recipe = load_recipe("demo")
    other = Recipe.model_validate({**recipe.model_dump(exclude={"origins"}), key: changed[key]})
    before, after = (
        adapter_inputs(SimpleNamespace(recipe=item, results={"dataset": SimpleNamespace(fingerprint="x")}))  # type: ignore[arg-type]
        for item in (recipe, other)
    )
    assert {name for name in {**before, **after} if before.get(name) != after.get(name)} == {key}
