from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import RecipeError
from kollm.core.resources import resource_folder
from kollm.recipe.load import load_recipe, origin_of, recipe_names


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


MINIMAL = "base:\n  model: toy:gpt_neox\n"


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_opens_with_its_command(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    first = (resource_folder("recipe/recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# kollm ")
    assert name in first


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.yaml", MINIMAL + "trainer:\n  learning_rate: 3e-4\n  max_steps: '5'\n"))
    assert recipe.trainer == {"learning_rate": 3e-4, "max_steps": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bass:\n  model: x\n", "unknown key 'bass' - did you mean 'base'"),
        (MINIMAL + "adapter:\n  rank: 8\n", "unknown key 'adapter.rank'"),
        (MINIMAL + "adapter:\n  dropot: 0.1\n", "did you mean 'dropout'"),
        (MINIMAL + "trainer:\n  learning_rat: 1\n", "no key of SFTConfig - did you mean 'learning_rate'"),
        (MINIMAL + "trainer:\n  learning_rate: fast\n", "trainer.learning_rate is 'fast'"),
        (MINIMAL + "trainer:\n  gradient_accumulation_steps: 4\n", "use global_batch_size instead"),
        (MINIMAL + "origins:\n  adapter.rr: paper\n", "origins names 'adapter.rr'"),
        (MINIMAL + "loss: some\n", "'loss' is 'some'"),
        ("prompt: kullm-2023\n", "the key 'base' is missing"),
        ("- a\n- b\n", "holds list, not keys"),
        ("base: [\n", "line 2: not valid YAML"),
        ("extends: nowhere\n", "There is no recipe 'nowhere'"),
    ],
)
def test_a_fault_is_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=r"[Rr]ecipe") as caught:
        load_recipe(write(tmp_path / "r.yaml", text))
    assert message in str(caught.value)


def test_an_unknown_name_is_met_with_the_closest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        load_recipe("demmo")
    with pytest.raises(RecipeError, match=r"'none\.yaml' does not exist"):
        load_recipe("none.yaml")


def test_extends_takes_over_what_is_not_said_again(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", MINIMAL + "adapter: {r: 4, alpha: 8}\ndescription: the first\n")
    child = load_recipe(write(tmp_path / "b.yaml", "extends: a.yaml\nadapter: {r: 2}\n"))
    assert (child.adapter.r, child.adapter.alpha, child.name, child.description) == (2, 8, "b", "")


def test_extends_in_a_circle_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(RecipeError, match="leads back to itself"):
        load_recipe(tmp_path / "a.yaml")


def test_overrides_reach_any_key(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", MINIMAL)
    recipe = load_recipe(path, ["adapter.r=8", "trainer.learning_rate=1e-4", "data.sources=[{name: dolly}]"])
    assert (recipe.adapter.r, recipe.trainer["learning_rate"], recipe.data.sources[0].name) == (8, 1e-4, "dolly")
    with pytest.raises(RecipeError, match="has no '='"):
        load_recipe(path, ["adapter.r"])


def test_a_local_judge_takes_no_setting_of_a_service(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", MINIMAL)
    with pytest.raises(RecipeError, match="asks no service: samples has no effect"):
        load_recipe(path, ["judge.engine=local", "judge.samples=3"])
    assert load_recipe(path, ["judge.engine=local", "judge.mode=logprob"]).judge.engine == "local"


def test_an_overridden_value_is_not_said_to_be_the_papers() -> None:
    origins = load_recipe(
        "kullm-polyglot-5.8b", ["adapter.r=64", "adapter.alpha=32", "data.evaluation={name: dolly}"]
    ).origins
    assert (origins["adapter.r"], origins["data.evaluation"]) == ("override", "override")
    assert origins["adapter.alpha"] == "paper", "the same value is no other"


CHILD = """\
extends: kullm-polyglot-5.8b
adapter:
  r: 64
  alpha: 32
trainer: {learning_rate: 1e-5}
base: {model: Qwen/Qwen3-8B}
origins:
  base.model: "assumed: to try it"
"""


def test_what_another_recipe_replaces_loses_its_origin(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", CHILD)
    origins = load_recipe(path).origins
    assert (origins["adapter.r"], origins["trainer.learning_rate"]) == ("set in mine.yaml", "set in mine.yaml")
    assert (origins["adapter.alpha"], origins["adapter.targets"], origins["base.model"]) == (
        "paper",
        "paper",
        "assumed: to try it",
    )
    grandchild = write(tmp_path / "hers.yaml", "extends: mine.yaml\nbase: {model: a/b}\nadapter: {r: 64}\n")
    origins = load_recipe(grandchild).origins
    assert (origins["base.model"], origins["adapter.r"]) == ("set in hers.yaml", "set in mine.yaml")


def test_an_origin_of_a_section_is_lost_by_the_key_that_changes(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", MINIMAL + "adapter: {r: 4, alpha: 8}\norigins: {adapter: paper}\n")
    child = load_recipe(write(tmp_path / "b.yaml", "extends: a.yaml\nadapter: {r: 2}\n"))
    assert (origin_of("adapter.r", child.origins), origin_of("adapter.alpha", child.origins)) == (
        "set in b.yaml",
        "paper",
    )
    assert origin_of("adapter.alpha", load_recipe(tmp_path / "b.yaml", ["adapter={alpha: 9}"]).origins) == "override"


def test_show_says_where_a_value_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", CHILD)
    shown = CliRunner().invoke(cli, ["recipe", "show", str(path), "--set", "adapter.dropout=0.5"]).output.splitlines()
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in shown}
    assert lines["adapter.r"] == f"64 set in mine.yaml ({path}:3)"
    assert lines["base.model"] == f"Qwen/Qwen3-8B assumed: to try it ({path}:6)"
    assert lines["adapter.dropout"] == "0.5 override (--set)"
    assert lines["adapter.targets"].startswith("query_key_value paper (_polyglot.yaml:")
    assert lines["judge.samples"] == "1 default"


def test_the_fingerprint_follows_the_values_not_the_words(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", MINIMAL)
    assert load_recipe(path).fingerprint() == load_recipe(path, ["description=words"]).fingerprint()
    assert load_recipe(path).fingerprint() != load_recipe(path, ["adapter.r=8"]).fingerprint()
    assert load_recipe(path).fingerprint("adapter") == load_recipe(path, ["loss=all"]).fingerprint("adapter")


def test_a_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.yaml", MINIMAL))
    again = load_recipe(write(tmp_path / "s.yaml", yaml.safe_dump(recipe.model_dump(mode="json"))))
    assert again == recipe
