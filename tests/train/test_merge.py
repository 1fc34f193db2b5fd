"""A merged model says what its adapter says, or is not kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from kollm.cli import cli
from kollm.core.errors import InputError, StateError
from kollm.core.files import file_sha256, read_json
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from kollm.train.export import merge

METHODS = {
    "lora": [],
    "dora": ["adapter.method=dora"],
    "ia3": ["adapter.method=ia3", "adapter.feedforward=[dense_4h_to_h]", "trainer.learning_rate=0.05"],
    "int8": ["quantization=int8"],
    "new_tokens": ["base.new_tokens=TOKENS"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"root": tmp_path_factory.mktemp("adapters")}


@pytest.fixture
def adapter_of(folders: dict[str, Path], recipe_file: Path, dataset: Path, base: Path) -> object:
    """A function that trains an adapter of a kind for eight steps, once."""
    from kollm.train.job import train_recipe

    def make(kind: str) -> Path:
        if kind not in folders:
            tokens = folders["root"] / "tokens.txt"
            tokens.write_text("대한민국\n한강이\n", encoding="utf-8")
            sets = [value.replace("TOKENS", str(tokens)) for value in METHODS[kind]]
            recipe: Recipe = load_recipe(recipe_file, ["trainer.max_steps=8", "data.holdout=0", *sets])
            folders[kind] = folders["root"] / kind
            train_recipe(recipe, str(dataset), folders[kind], base=base)
        return folders[kind]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(METHODS))
def test_a_merged_model_says_what_its_adapter_says(kind: str, adapter_of, base: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    adapter, output = adapter_of(kind), tmp_path / "merged"
    parity = merge(adapter, output)
    assert parity.mean < 0.05
    assert parity.effect > 3 * parity.mean, "the adapter changes the base by more than merging loses"
    assert (parity.quantised is not None) == (kind == "int8")
    assert read_json(output / "training.json")["merge"] == {**parity._asdict(), "tolerance": 0.05}

    plain = AutoModelForCausalLM.from_pretrained(output)
    assert plain.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(output)
    under = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if kind == "new_tokens":
        under.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    ids = torch.tensor([tokenizer("서울은 대한민국의 수도입니다.")["input_ids"]])
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(under, adapter).eval()(ids).logits.softmax(-1)
        got = plain.eval()(ids).logits.float().softmax(-1)
    assert (wanted - got).abs().max() < 0.05


@pytest.mark.slow
def test_the_folder_is_whole_and_carries_its_history(adapter_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    adapter, output = adapter_of("lora"), tmp_path / "merged"
    shown = CliRunner().invoke(cli, ["merge", str(adapter), "-o", str(output)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert f"{output}: merged" in shown.output
    assert {path.name for path in output.iterdir()} == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "recipe.yaml",
        "metrics.json",
        "training.json",
    }
    for name in ("recipe.yaml", "metrics.json", "chat_template.jinja"):
        assert (output / name).read_bytes() == (adapter / name).read_bytes()
    about = read_json(output / "training.json")
    own = {"merge", "files", "sha256", "location", "adapter_content"}
    before = read_json(adapter / "training.json")
    assert {key: about[key] for key in about if key not in own} == {
        key: before[key] for key in before if key not in own
    }
    assert set(about["files"]) == {path.name for path in output.iterdir()} - {"training.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    again = CliRunner().invoke(cli, ["merge", str(adapter), "-o", str(output)], catch_exceptions=False)
    assert again.exit_code == 0 and again.stdout == shown.stdout, "as after a kill at its end"
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == times
    with pytest.raises(InputError, match="is in use"):
        merge(adapter_of("dora"), output)
    (output / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is in use"):
        merge(adapter, output)


@pytest.mark.slow
def test_a_merge_that_loses_the_adapter_is_not_kept(
    adapter_of,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    adapter = adapter_of("lora")
    before = {path: file_sha256(path) for path in adapter.iterdir() if path.is_file()}
    with pytest.raises(StateError, match="more than 1e-09 - nothing was saved"):
        merge(adapter, tmp_path / "merged", tolerance=1e-9)
    monkeypatch.setattr("peft.PeftModelForCausalLM.merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(StateError, match=r"differs from the adapter by \d+\.\d+ nats a token, more than 0.05"):
        merge(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
    assert {path: file_sha256(path) for path in before} == before


@pytest.mark.slow
def test_what_cannot_be_merged_is_one_sentence(adapter_of, base: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    adapter = adapter_of("lora")
    with pytest.raises(InputError, match="is in use, it holds "):
        merge(adapter, adapter)
    with pytest.raises(InputError, match="is no adapter folder"):
        merge(base, tmp_path / "merged")
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    settings = read_json(copy / "adapter_config.json")
    config = copy / "adapter_config.json"
    config.write_text(json.dumps({**settings, "base_model_name_or_path": str(tmp_path / "gone")}))
    marker = copy / "training.json"
    marker.write_text(json.dumps({**read_json(marker), "location": "../gone"}))
    with pytest.raises(InputError, match=r"gone', which is gone - name one: --base MODEL"):
        merge(copy, tmp_path / "merged")
    config.write_text(json.dumps({**settings, "peft_type": "ADAPTION_PROMPT"}))
    with pytest.raises(InputError, match="cannot be merged - publish the adapter itself"):
        merge(copy, tmp_path / "merged")
    (copy / "training.json").unlink()
    with pytest.raises(InputError, match=r"has no training\.json: its training was cut off"):
        merge(copy, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("size", [0, 700, 60_000])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(adapter_of, size: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import resource

    adapter, output = adapter_of("lora"), tmp_path / "merged"
    before = {path.name: path.read_bytes() for path in adapter.iterdir() if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # which programs meet as they meet a full disk
    try:
        with pytest.raises(StateError, match=rf"^'{output}.* cannot be (used|written) \(.*File too large"):
            merge(adapter, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    assert {path.name: path.read_bytes() for path in adapter.iterdir() if path.is_file()} == before
