"""What SECURITY.md promises of other people's models: none of their code runs, none of their pickles is loaded, and
answers belong to the weights that gave them."""

from __future__ import annotations

import builtins
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file

from kollm.answer.local import load_system
from kollm.core.errors import InputError
from kollm.judge.local import LocalJudge
from kollm.recipe.load import load_recipe
from kollm.services.local_model import find_model, load_config, load_network, load_tokenizer
from kollm.train.job import train_recipe
from kollm.train.preview import preview_tokenizer
from kollm.train.vocabulary import extend_base
from kollm.translate.local import LocalTranslator
from tests.hub.folders import make_dataset
from tests.security.hostile_models import Bomb, change, with_code, with_kernel, with_tokenizer_code

REFUSED = "kollm never runs"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at the terminal who says yes to everything; the questions that were asked."""
    questions: list[str] = []

    def yes(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", yes)
    return questions


def train_on(model: Path, folder: Path) -> None:
    recipe = load_recipe("demo", ["base.model=toy:gpt_neox"])
    train_recipe(recipe, str(make_dataset(folder / "dataset", limit=3)), folder / "trained", base=model)


DOORS: dict[str, Callable[[Path, Path], Any]] = {
    "generate": lambda model, _: load_system(str(model), prompt="plain"),
    "judge": lambda model, _: LocalJudge(model, "kullm2023"),
    "translate": lambda model, _: LocalTranslator(str(model)),
    "vocabulary": lambda model, folder: extend_base(str(model), ["한국어"], 500, folder / "extended"),
    "loader": lambda model, _: (load_config(find_model(model)), load_tokenizer(find_model(model))),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("upstream", ["", "stranger/code"])
def test_code_of_a_model_never_runs(door: str, upstream: str, base: Path, tmp_path: Path, asked: list[str]) -> None:
    marker = tmp_path / "ran"
    model = with_code(base, tmp_path / "model", marker, upstream)
    with pytest.raises(InputError, match=REFUSED):
        DOORS[door](model, tmp_path)
    assert not marker.exists() and asked == []


@pytest.mark.parametrize("door", DOORS)
def test_code_of_a_tokenizer_never_runs(door: str, base: Path, tmp_path: Path, asked: list[str]) -> None:
    marker = tmp_path / "ran"
    model = with_tokenizer_code(base, tmp_path / "model", marker)
    try:  # an architecture of transformers' own is read by transformers' own tokenizer
        DOORS[door](model, tmp_path)
    except InputError as error:
        assert "\n" not in str(error)
    assert not marker.exists() and asked == []


def test_code_never_runs_in_training_and_preview(base: Path, tmp_path: Path, asked: list[str]) -> None:
    marker = tmp_path / "ran"
    model = with_code(base, tmp_path / "model", marker)
    with pytest.raises(InputError, match=REFUSED):
        train_on(model, tmp_path)
    assert preview_tokenizer(load_recipe("demo"), [], model).eos_token == "<|endoftext|>"
    assert not marker.exists() and asked == []


def test_a_configuration_that_fetches_code_is_refused(base: Path, tmp_path: Path) -> None:
    model = with_kernel(base, tmp_path / "model")
    with pytest.raises(InputError, match=r"'stranger/kernels' \(attn_implementation\), and kollm never runs"):
        load_network(find_model(model), "auto")


@pytest.mark.parametrize(
    "values", [{"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, {"peft_type": "XLORA"}]
)
def test_an_adapter_that_imports_or_fetches_is_refused(
    values: dict[str, object], adapter: Path, base: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    change(copy / "adapter_config.json", **values)
    with pytest.raises(InputError, match="which kollm never does"):
        load_system(str(copy), base=str(base), prompt="plain")


def test_pickled_weights_are_refused_and_the_command_converts_them(adapter: Path, base: Path, tmp_path: Path) -> None:
    model = shutil.copytree(base, tmp_path / "model of mine")
    weights = load_file(model / "model.safetensors")
    torch.save(weights, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    convert(model, "AutoModelForCausalLM", lambda: load_system(str(model), prompt="plain"))
    converted = load_file(model / "model.safetensors")
    assert all(torch.equal(weights[name], converted[name]) for name in converted) and converted

    copy = shutil.copytree(adapter, tmp_path / "adapter of mine")
    torch.save(load_file(copy / "adapter_model.safetensors"), copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    convert(copy, "adapter_model.bin", lambda: load_system(str(copy), base=str(base), prompt="plain"))
    assert (
        load_file(copy / "adapter_model.safetensors").keys() == load_file(adapter / "adapter_model.safetensors").keys()
    )


def convert(folder: Path, named: str, load: Callable[[], Any]) -> None:
    """Refused; then the command of the message is run; then loaded."""
    with pytest.raises(InputError, match=r"pickled weights .* can run code") as caught:
        load()
    command = shlex.split(str(caught.value).partition("convert them once: ")[2])
    assert command[:2] == ["python", "-c"] and len(command) == 3 and named in command[2]
    exec(command[2], {})  # noqa: S102 - as `python -c` does, in a process that has torch already
    load()


def test_a_pickle_that_runs_code_runs_nowhere(adapter: Path, base: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for folder, name in ((base, "pytorch_model.bin"), (adapter, "adapter_model.bin")):
        copy = shutil.copytree(folder, tmp_path / name)
        next(copy.glob("*model.safetensors")).unlink()
        (copy / name).write_bytes(pickle.dumps(Bomb(marker)))
        with pytest.raises(InputError, match="pickled weights"):
            load_system(str(copy), base=str(base) if folder == adapter else None, prompt="plain")
        command = shlex.split(str(_refusal(copy, base if folder == adapter else None)).partition("once: ")[2])
        assert str(copy) in command[2]
        with pytest.raises(Exception, match=r"weights_only|Weights only|no file named|safetensors"):
            exec(command[2], {})  # noqa: S102
    assert not marker.exists()


def _refusal(folder: Path, base: Path | None) -> InputError:
    with pytest.raises(InputError) as caught:
        load_system(str(folder), base=str(base) if base else None, prompt="plain")
    return caught.value


def test_answers_belong_to_all_that_was_loaded(adapter: Path, base: Path, other_base: Path, tmp_path: Path) -> None:
    def weights(adapter: Path, base: Path) -> str:
        return load_system(str(adapter), base=str(base), prompt="plain").weights

    mine = weights(adapter, base)
    assert weights(shutil.copytree(adapter, tmp_path / "copy"), shutil.copytree(base, tmp_path / "base")) == mine
    assert weights(adapter, other_base) != mine
    changed = shutil.copytree(adapter, tmp_path / "changed")
    change(changed / "adapter_config.json", lora_alpha=1)
    assert weights(changed, base) != mine
    eos = shutil.copytree(base, tmp_path / "eos")
    change(eos / "generation_config.json", eos_token_id=5)
    assert weights(adapter, eos) != mine
    assert load_system(str(base), prompt="plain").weights != load_system(str(other_base), prompt="plain").weights


def test_an_index_of_weights_names_only_the_models_own_files(base: Path, tmp_path: Path) -> None:
    model = shutil.copytree(base, tmp_path / "model")
    (tmp_path / "outside.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    index = model / "model.safetensors.index.json"
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "missing.safetensors"):
        index.write_text(f'{{"metadata": {{}}, "weight_map": {{"a": "{name}"}}}}', encoding="utf-8")
        with pytest.raises(InputError, match="no file of the model"):
            load_system(str(model), prompt="plain")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": [["a"]]}}'),
        ("tokenizer.json", "\udcff"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": 7}, "tokenizer_class": 3}'),
        ("config.json", "[]"),
        ("config.json", '{"model_type": ["gpt_neox"]}'),
        ("config.json", '{"model_type": "gpt_neox", "num_attention_heads": 0, "hidden_size": 32}'),
        ("config.json", '{"model_type": "gpt_neox", "vocab_size": -3}'),
        ("generation_config.json", '{"eos_token_id": "x", "num_beams": []}'),
    ],
)
def test_damaged_files_are_one_sentence(name: str, content: str, base: Path, tmp_path: Path) -> None:
    model = shutil.copytree(base, tmp_path / "model")
    (model / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    try:
        load_system(str(model), prompt="plain")
    except InputError as error:
        assert "\n" not in str(error) and str(model) in str(error)


def test_an_adapter_is_no_base(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an adapter"):
        load_system(str(adapter), base=str(adapter), prompt="plain")
    with pytest.raises(InputError, match="is an adapter"):
        LocalJudge(adapter, "kullm2023")


def test_peft_itself_is_what_loads(adapter: Path, base: Path) -> None:
    ours = load_system(str(adapter), base=str(base), prompt="plain").network.state_dict()
    plain = AutoPeftModelForCausalLM.from_pretrained(adapter).state_dict()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


SIZES: dict[str, tuple[str, dict[str, object], str]] = {
    "layers": ("config.json", {"num_hidden_layers": 10**7}, "asks for 10,000,000 layers"),
    "layers without weights": ("config.json", {"num_hidden_layers": 1_999}, "asks for 1,999 layers, and its weights"),
    "a list": ("config.json", {"eos_token_id": [1] * 400_000}, "config.json' is larger than 1 MiB"),
    "another list": ("generation_config.json", {"eos_token_id": [1] * 400_000}, "is larger than 1 MiB"),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_few_bytes_of_configuration_ask_for_no_size(name: str, base: Path, tmp_path: Path) -> None:
    file, values, said = SIZES[name]
    model = shutil.copytree(base, tmp_path / "model")
    change(model / file, **values)
    with pytest.raises(InputError, match=said):
        load_network(find_model(model), "auto")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"r": 10**8}, "its rank is 100,000,000, and no side"),
        ({"rank_pattern": {"dense": 10**8}}, "its rank is 100,000,000, and no side"),
        ({"layer_replication": [[0, 1]] * 5_000}, "copies layers 5,000 times"),
        ({"target_modules": ["dense"] * 200_000}, "is larger than 1 MiB"),
    ],
)
def test_an_adapter_asks_for_no_more_than_it_holds(
    values: dict[str, object], said: str, adapter: Path, base: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    change(copy / "adapter_config.json", **values)
    with pytest.raises(InputError, match=said):
        load_system(str(copy), base=str(base), prompt="plain")


def test_an_adapter_that_names_a_library_imports_none(
    adapter: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange_library.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    change(
        copy / "adapter_config.json",
        auto_mapping={"base_model_class": "Strange", "parent_library": "strange_library"},
    )
    load_system(str(copy), base=str(base), prompt="plain")
    assert "strange_library" not in sys.modules


def test_a_folder_without_a_model_is_told_from_a_model_that_is_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model and no adapter"):
        load_tokenizer(find_model(make_dataset(tmp_path / "dataset", limit=4)))
