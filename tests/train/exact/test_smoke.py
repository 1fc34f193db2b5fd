"""Any recipe in small: the adapter, the quantisation and the architecture are its own."""

import math

import pytest
import yaml
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.recipe.load import load_recipe, recipe_names
from kollm.recipe.methods import METHODS
from kollm.train.smoke import STEPS, smoke

VARIANTS = [
    ("kullm-polyglot-5.8b", ()),
    ("kullm-polyglot-12.8b-fast", ()),
    ("kullm-polyglot-5.8b", ("quantization=nf4",)),
    ("kullm-polyglot-5.8b", ("base.model=bigscience/bloom-560m",)),
    ("kullm-polyglot-5.8b-fast", ("base.model=meta-llama/Llama-2-7b-hf", "adapter.targets=[q_proj,v_proj]")),
]


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_smoke(name, overrides, tmp_path):
    metrics = smoke(load_recipe(name, overrides), tmp_path / "adapter")["sft"]
    assert metrics["steps"] == len(metrics["history"]) == STEPS
    assert metrics["heldout"]["after"] != metrics["heldout"]["before"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    "method",  # with a reference and without one
    [
        "dpo",
        pytest.param(
            "simpo",
            marks=pytest.mark.nightly(
                "tests/train/exact/test_smoke.py::test_a_recipe_that_goes_on_to_preferences_smokes_both_trainings"
            ),
        ),
    ],
)
def test_a_recipe_that_goes_on_to_preferences_smokes_both_trainings(method, tmp_path):
    overrides = ["quantization=none", "base.dtype=float32", f"preference.method={method}"]
    recipe = load_recipe("kullm-polyglot-5.8b-dpo", overrides)
    found = smoke(recipe, tmp_path / "adapter")
    assert list(found) == ["sft", method]
    metrics = found[method]
    assert metrics["steps"] == len(metrics["history"]) == STEPS and metrics["heldout"]["rows"] > 0
    assert metrics["heldout"]["margin"]["after"] != metrics["heldout"]["margin"]["before"]
    if METHODS[method].reference:  # the adapter of the first training is the start and the reference
        assert metrics["heldout"]["margin"]["before"] == 0
    if method == "dpo":
        assert metrics["history"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    recipe_kept = yaml.safe_load((tmp_path / "adapter" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe_kept["method"] == method, "what is kept is the last training's"


def test_a_folder_in_use_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("kollm.train.smoke.train_recipe", None)
    with pytest.raises(InputError, match=r"is in use, it holds .* name an empty or a new folder for the smoke run"):
        smoke(load_recipe("kullm-polyglot-5.8b"), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ["--dataset", "D"],
        ["--config", "single_gpu", "--base", "B"],
        ["--sweep", "global_batch_size=8,16"],
        ["--processes", "2"],
        ["--dry-run"],
    ],
)
def test_what_a_smoke_run_does_not_take_is_refused(options, monkeypatch):
    monkeypatch.setattr("kollm.train.smoke.smoke", None)
    result = CliRunner().invoke(cli, ["train", "demo", "--smoke", *options])
    assert result.exit_code == 2
    wrong = ", ".join(option for option in options if option.startswith("--"))
    assert f"in this process - leave out {wrong}." in " ".join(result.output.split())


def test_a_smoke_run_takes_overrides_and_a_folder(monkeypatch, tmp_path):
    def stand_in(recipe, output):
        assert (recipe.loss, output) == ("all", tmp_path)
        raise InputError("taken")

    monkeypatch.setattr("kollm.train.smoke.smoke", stand_in)
    result = CliRunner().invoke(cli, ["train", "demo", "--smoke", "-o", str(tmp_path), "--set", "loss=all"])
    assert str(result.exception) == "taken"


def test_every_origin_names_a_key_and_a_known_kind():
    for name in recipe_names():
        for key, origin in load_recipe(name).origins.items():
            assert origin.startswith(("paper", "released", "assumed", "source: ")), (name, key)
