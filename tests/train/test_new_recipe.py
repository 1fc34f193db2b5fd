"""A recipe for a base that has none: its values come from the base, the machine and the rows, and each says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from transformers import AutoConfig, AutoModelForCausalLM

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.recipe.load import load_recipe, override
from kollm.recipe.schema import ToyBase
from kollm.train.check import check_recipe
from kollm.train.new_recipe import new_recipe, save_recipe
from kollm.train.shapes import base_facts_of, count, linear_targets, meta_model, small_config
from kollm.train.toy import random_model
from tests.train.templates import tokenizer_for, trl_templates

SPEC = ToyBase(hidden_size=64, layers=2, heads=2, vocab_size=600, context=512, pretrain_steps=0)
ARCHITECTURES = (
    *(
        "qwen3",
        "qwen3_moe",
        "qwen3_5_text",
        "exaone4",
        "exaone_moe",
        "hyperclovax",
        "gemma2",
        "gemma3_text",
        "solar_open",
    ),
    *(
        "deepseek_v3",
        "phi3",
        "cohere2",
        "gpt_oss",
        "glm4_moe",
        "olmo2",
        "granite",
        "lfm2",
        "mistral",
        "llama",
        "gpt_neox",
    ),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "Tiny_Qwen3"
    tokenizer = tokenizer_for(trl_templates()["qwen3"])
    random_model("qwen3", SPEC, tokenizer, AutoConfig.for_model("qwen3")).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(count: int, words: int = 5) -> list[Record]:
    return [Record(f"r-{n}", "own", f"질문 {n}", "", "답 " * words) for n in range(count)]


def test_its_values_come_from_the_base_and_the_rows(base: Path, tmp_path: Path) -> None:
    made = new_recipe(str(base), rows(300))
    assert made.name == "tiny-qwen3"
    assert made.prompt == "chat"
    assert made.adapter.targets == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert made.trainer["max_length"] == 256
    assert made.trainer["packing"] is True
    assert (made.data.holdout, made.global_batch_size) == (0.05, 16)
    assert made.origins["trainer.max_length"] == "99.5% of the rows are shorter; the base's context is 512"
    assert new_recipe(str(base), rows(30, words=400)).trainer["max_length"] == 512, "never past the base's context"
    assert new_recipe(str(base), rows(30)).data.holdout == 0
    check_recipe(made)
    save_recipe(made, tmp_path / "made.yaml")
    assert load_recipe(tmp_path / "made.yaml").fingerprint() == made.fingerprint()
    changed = override(made, ["trainer.learning_rate=1e-4"])
    assert (changed.trainer["learning_rate"], changed.origins["trainer.learning_rate"]) == (1e-4, "override")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tiny_model_of_every_architecture(architecture: str) -> None:
    """From the configuration alone: its size is counted, its matrices are found, and a small one of it computes."""
    import torch

    config = AutoConfig.for_model(architecture)
    facts = count(config, architecture)
    assert facts.parameters > facts.linear_parameters * 0.3 > 0
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    small = AutoModelForCausalLM.from_config(small_config(config, SPEC, 640, special), dtype=torch.float32)
    assert small.num_parameters() < 2_000_000
    assert small(input_ids=torch.arange(8)[None]).logits.shape == (1, 8, 640)
    targets = linear_targets(small)
    assert targets
    assert not {"lm_head", "gate", "router", "embed_out"} & set(targets)


def test_the_count_is_that_of_the_written_out_shapes() -> None:
    """Llama's layers are written out in bases.py; counted on the network they are the same."""
    config = AutoConfig.for_model("llama", vocab_size=1000, hidden_size=64, intermediate_size=96, num_hidden_layers=3)
    config.num_attention_heads = config.num_key_value_heads = 4
    facts = count(config, "llama")
    network = meta_model(config)
    assert facts.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert facts.linear_parameters == facts.layers * sum(linear.size for linear in facts.linears.values())


def test_mixtures_of_experts_multiply_a_token_with_few(base: Path) -> None:
    facts = count(AutoConfig.for_model("gpt_oss"), "gpt_oss")
    assert facts.parameters > 110e9
    assert 3e9 < facts.matmul_parameters < 6e9, "GPT-OSS 120B is said to use 5.1 B a token"
    assert base_facts_of(str(base)).architecture == "qwen3"


def test_plan_and_recipe_new_take_any_base(base: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["plan", "--base", str(base)])
    assert result.exit_code == 0, result.output
    assert "fits (counted)" in result.output
    (tmp_path / "my.csv").write_text("question,answer\n질문,답\n", encoding="utf-8")
    file = tmp_path / "new.yaml"
    command = ["recipe", "new", "--base", str(base), "--dataset", str(tmp_path / "my.csv"), "-o", str(file)]
    result = CliRunner().invoke(cli, [*command, "--set", "adapter.r=8"])
    assert result.exit_code == 0, result.output
    made = load_recipe(file)
    assert (made.adapter.r, made.adapter.method) == (8, "lora")
    assert file.read_text(encoding="utf-8").startswith("# kollm train THIS_FILE --dataset ROWS -o OUT\n")
    again = CliRunner().invoke(cli, command)
    assert isinstance(again.exception, InputError)
    assert "exists already" in str(again.exception)


def test_trls_options_are_overrides_of_the_recipe(base: Path, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("question,answer\n질문,답\n질문 둘,답 둘\n", encoding="utf-8")
    options = [
        "--learning-rate",
        "1e-5",
        "--num-train-epochs",
        "2",
        "--lora-r",
        "8",
        "--max-length",
        "128",
        "--no-packing",
    ]
    options += [
        "--per-device-train-batch-size",
        "2",
        "--report-to",
        "tensorboard",
        "--lora-target-modules",
        "q_proj,v_proj",
        "--load-in-4bit",
    ]
    command = [
        "train",
        "--base",
        str(base),
        "--dataset",
        str(tmp_path / "my.csv"),
        "-o",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    result = CliRunner().invoke(cli, [*command, *options])
    assert result.exit_code == 0, result.output
    line = result.output.splitlines()[-1]
    for text in (
        *("trainer.learning_rate=1e-05", "trainer.num_train_epochs=2", "adapter.r=8", "trainer.max_length=128"),
        *("trainer.packing=false", "trainer.per_device_train_batch_size=2", "trainer.report_to=tensorboard"),
        *("'adapter.targets=[q_proj, v_proj]'", "quantization=nf4"),
    ):
        assert f"--set {text}" in line
    assert load_recipe(tmp_path / "out.yaml").base.model == str(base)
    missing = CliRunner().invoke(cli, ["train", "--dataset", str(tmp_path / "my.csv"), "-o", str(tmp_path / "out")])
    assert missing.exit_code == 2
    assert "name a recipe (kollm recipe list), or a base with --base MODEL" in missing.output


@pytest.mark.slow
def test_a_smoke_run_of_a_base_without_a_recipe(base: Path) -> None:
    result = CliRunner().invoke(cli, ["train", "--base", str(base), "--smoke"])
    assert result.exit_code == 0, result.output
    assert "tiny-qwen3 trains (sft, lora, none" in result.output
