"""The recipes of the survey's systems: each loads, plans and says where its values come from; one of each kind trains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.resources import resource_folder
from kollm.recipe import bases
from kollm.recipe.load import load_recipe, recipe_names
from kollm.recipe.prompt import PromptTemplate
from kollm.sources import SOURCES
from kollm.train.attention import implementation
from kollm.train.check import architecture_of, check_recipe
from kollm.train.plan import make_plan
from kollm.train.smoke import smoke

CURRENT = [name for name in recipe_names() if load_recipe(name).base.model in bases.CURRENT]
SYSTEMS = [
    name for name in recipe_names() if name not in ("demo", "demo-dpo", *CURRENT) and not name.startswith("kullm-")
]
PARTS = ["_system", "_alpaca", "_koalpaca-polyglot", "_other-base", "_other-base-llama"]
KULLM = [name for name in recipe_names() if name.startswith("kullm-")]
NAMED = """vicuna-13b kullm-polyglot-5.8b kullm-polyglot-12.8b kgoat-polyglot-5.8b koalpaca-polyglot-5.8b koalpaca-polyglot-12.8b
koalpaca-llama-7b kovicuna-llama-7b korani-llama-13b korani-polyglot-12.8b llama-2-ko-7b komt-llama-2-7b
ko-platypus-llama-2-ko-13b llama-adapter-7b bloom redpajama polyglot-ko-1.3b polyglot-ko-3.8b"""


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(
        (resource_folder("recipe/recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_system_that_the_issue_names_is_there() -> None:
    assert set(NAMED.split()) <= set(recipe_names())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_recipe_is_sound_fits_and_is_planned(name: str) -> None:
    recipe = load_recipe(name)
    check_recipe(recipe)
    PromptTemplate.load(recipe.prompt)
    assert {source.name for source in recipe.data.sources} <= set(SOURCES)
    full = recipe.adapter.method == "full"
    command = (resource_folder("recipe/recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    config = re.search(r"--config (\S+)", command)
    assert config is not None
    check_recipe(recipe, config[1])
    plan = make_plan(recipe, "a100-80gb", 4, sharding="fsdp" if full else "ddp")
    assert plan.fits, plan.fix
    assert full == config[1].startswith("fsdp2")  # every weight with its optimizer state fits no single card


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_command_line_checks_and_plans_it(name: str) -> None:
    for arguments, expected in ((["recipe", "check", name], "valid recipe"), (["plan", name], "GiB")):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        assert expected in result.output


@pytest.mark.parametrize("name", ["_polyglot", *KULLM, *SYSTEMS, *PARTS])
def test_a_value_and_its_origin_stand_in_one_file(name: str) -> None:
    """So that no recipe shows the origin of a value that it has replaced."""
    values = read(name)
    origins = values.pop("origins")
    for key in ("description", "extends", "name"):
        values.pop(key, None)
    for leaf in leaves(values):
        assert any(leaf == key or leaf.startswith(f"{key}.") for key in origins), f"{leaf} has no origin"
    for key, origin in origins.items():
        assert re.match(r"(paper|released (code|card)|assumed: \S)", origin), f"{key}: {origin}"


@pytest.mark.parametrize("name", [name for name in SYSTEMS if "_other-base" not in read(name)["extends"]])
def test_no_other_system_shows_an_origin_of_kullm(name: str) -> None:
    """What `_system` takes over from KULLM says so; only the evaluation is the survey's for all."""
    kullm, own = read("_polyglot")["origins"], read(name)["origins"]
    taken = {key for key, origin in load_recipe(name).origins.items() if kullm.get(key) == origin} - set(own)
    effectless = {"trainer.per_device_train_batch_size", "trainer.save_steps"}
    assert taken - effectless <= {"data.evaluation", "data.holdout", "generation.preset", "judge.engine", "judge.model"}


def test_no_recipe_repeats_another() -> None:
    """A value that a recipe inherits is not written again; KULLM's own, at the root, may coincide with another system's."""
    for name in (*SYSTEMS, *PARTS):
        values = read(name)
        parent = flat(load_recipe_values(values.pop("extends")))
        values.pop("origins")
        for key, value in flat(values).items():
            assert key == "description" or parent.get(key) != value, f"{name}: {key} is inherited already"


def load_recipe_values(name: str) -> dict[str, Any]:
    """What a part says, with the parts that it extends, up to KULLM's."""
    values = read(name)
    if "extends" not in values:
        return {}
    return merged(load_recipe_values(values.pop("extends")), values)


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_attention_is_chosen_by_the_machine_where_the_architecture_has_a_choice(name: str) -> None:
    recipe = load_recipe(name)
    architecture = architecture_of(recipe)
    assert architecture is not None
    assert recipe.attention == ("eager" if architecture == "bloom" else "auto")
    implementation(recipe, architecture)


def test_what_makes_the_systems_what_they_are() -> None:
    """Numbers that their papers and cards state, from the recipes alone."""
    assert make_plan(load_recipe("llama-adapter-7b")).trainable == 30 * (10 * 4096 + 1)  # "1.2M"
    kgoat = load_recipe("kgoat-polyglot-5.8b")
    assert make_plan(kgoat).trainable + 28 * 4096 == 802_816  # its README's number counts the scales of queries too
    assert kgoat.trainer["num_train_epochs"] == 4
    ko = make_plan(load_recipe("llama-2-ko-7b")).facts
    assert (ko.vocabulary, ko.parameters) == (46_336, 6_855_856_128)
    assert load_recipe("kovicuna-llama-7b").data.turns == "conversation"
    assert load_recipe("korani-llama-13b").data.turns == "first"
    assert make_plan(load_recipe("tri-0.5b")).facts.parameters // 1_000_000 == 472


@pytest.mark.parametrize("page", ["survey.md", "survey.ko.md"])
def test_the_survey_page_has_a_row_and_a_smoke_run_for_every_recipe(page: str) -> None:
    lines = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8").splitlines()
    for name in SYSTEMS:
        assert any(line.startswith(f"| {name} |") for line in lines), f"{name}: no smoke run"
        size = name.rpartition("-")[2]
        row = re.compile(rf"kollm (train|run) ({name}\b|{name.removesuffix(size)}\S+ .*\(`-{size}`\))")
        assert any(row.search(line) for line in lines), f"{name}: no command"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "llama-adapter-7b",  # adaption prompts on Llama
        "komt-llama-2-7b",  # LoRA on every matrix of an int8 Llama
    ],
)
def test_one_of_each_kind_trains(name: str) -> None:
    """Kinds that tests/train/exact and test_vocabulary do not train."""
    metrics = smoke(load_recipe(name))["sft"]
    assert len(metrics["history"]) == 5
    assert all(0 < entry["loss"] < 20 for entry in metrics["history"])
    assert metrics["model"]["trainable_parameters"] > 0
