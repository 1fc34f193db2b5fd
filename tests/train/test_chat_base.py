"""A tiny base with a chat template of its own: trained, merged and asked in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.answer.local import load_system
from kollm.core.files import read_json
from kollm.core.records import Record
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import ToyBase
from kollm.train.export import merge
from kollm.train.job import train_recipe
from kollm.train.toy import random_model
from tests.train.conftest import write_dataset
from tests.train.templates import tokenizer_for, trl_templates

pytestmark = pytest.mark.slow
ASKED = Record("q-1", "own", "질문 하나", "글", "", system="너는 상담원이다.")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3")
    tokenizer = tokenizer_for(trl_templates()["qwen3"])
    spec = ToyBase(hidden_size=32, layers=2, heads=2, context=512)
    random_model("llama", spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    rows = [
        Record(f"r-{n}", "own", f"질문 {n}", "글" * (n % 2), f"대답 {n}", (("앞 질문", "앞 대답"),) * (n % 3), "상담원")
        for n in range(12)
    ]
    write_dataset(folder / "dataset", rows)
    recipe = parse_recipe(
        {
            "name": "chat",
            "base": {"model": str(base), "dtype": "float32"},
            "adapter": {"r": 4, "targets": ["q_proj", "v_proj"]},
            "trainer": {"max_steps": 2, "max_length": 256, "per_device_train_batch_size": 2},
            "global_batch_size": 4,
        },
        "test",
    )
    train_recipe(recipe, str(folder / "dataset"), folder / "adapter")
    return folder / "adapter"


def test_tools_are_learned_from_and_asked_with(base: Path, tmp_path: Path) -> None:
    """The definitions stand in the prompt of training, and in that of the adapter."""
    tools = '[{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {}}}]'
    rows = [Record(f"r-{n}", "own", f"질문 {n}", "", f"대답 {n}", tools=tools * (n % 2)) for n in range(8)]
    write_dataset(tmp_path / "dataset", rows)
    values = {
        "name": "tools",
        "base": {"model": str(base), "dtype": "float32"},
        "adapter": {"r": 4, "targets": ["q_proj", "v_proj"]},
        "trainer": {"max_steps": 1, "max_length": 512, "per_device_train_batch_size": 2},
        "global_batch_size": 4,
    }
    train_recipe(parse_recipe(values, "test"), str(tmp_path / "dataset"), tmp_path / "adapter")
    assert "tools_not_shown" not in read_json(tmp_path / "adapter" / "metrics.json")["rows"]
    system = load_system(str(tmp_path / "adapter"), base=str(base))
    assert "get_weather" in system.tokenizer.decode(system.encoder.prompt(rows[1]))
    assert "get_weather" not in system.tokenizer.decode(system.encoder.prompt(rows[0]))
    plain = parse_recipe({**values, "prompt": "kullm-2023"}, "test")
    train_recipe(plain, str(tmp_path / "dataset"), tmp_path / "plain")
    assert read_json(tmp_path / "plain" / "metrics.json")["rows"]["tools_not_shown"] == 4


def test_the_adapter_is_asked_with_the_prompt_of_its_base(adapter: Path, base: Path, tmp_path: Path) -> None:
    about = read_json(adapter / "training.json")
    assert about["prompt"] == "chat"
    assert "<|im_start|>assistant" in about["prompt_example"]["text"]
    metrics = read_json(adapter / "metrics.json")
    assert metrics["rows"]["turn_by_turn"] == 8
    assert metrics["rows"]["train"] == 12 + 12
    expected = "<|im_start|>system\n너는 상담원이다.<|im_end|>\n<|im_start|>user\n질문 하나\n\n글<|im_end|>\n<|im_start|>assistant\n"
    for place in (adapter, base):
        system = load_system(str(place), base=str(base) if place == adapter else None)
        assert system.tokenizer.decode(system.encoder.prompt(ASKED)) == expected
        assert system.encoder.ends[0] == system.tokenizer.convert_tokens_to_ids("<|im_end|>")
    merge(adapter, tmp_path / "merged", base=str(base), tolerance=1.0)
    config = read_json(tmp_path / "merged" / "generation_config.json")
    assert about["ends"] == config["eos_token_id"], (
        "servers stop at the end of the turn, and at the base's own end of text"
    )
    assert load_system(str(tmp_path / "merged")).encoder.prompt(ASKED) == system.encoder.prompt(ASKED)
