"""An adapter and its base find each other: from any directory, after a move, and never by a folder's name on the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM

from kollm.answer.local import load_system
from kollm.core.errors import InputError
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import ToyBase
from kollm.services.adapter_base import find_adapter_base, mend_moved, written_base
from kollm.services.local_model import LocalModel, find_model
from kollm.train.job import train_recipe
from tests.hub.folders import make_dataset

SHAPE = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=256, pretrain_steps=0)


def make_base(folder: Path, seed: int = 0) -> Path:
    from kollm.train.toy import make_base as make

    make("gpt_neox", SHAPE.model_copy(update={"seed": seed}), ["서울은 대한민국의 수도입니다. " * 30], folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with `base` and `adapter`, trained with relative paths inside it."""
    work = tmp_path_factory.mktemp("work") / "demo"
    make_base(work / "base")
    make_dataset(work / "dataset", limit=4)
    recipe = load_recipe("demo", ["trainer.max_steps=1", "trainer.max_length=256", "data.holdout=0"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work.parent)
        train_recipe(recipe, "demo/dataset", Path("demo/adapter"), base=Path("demo/base"))
    return work


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A copy at another place; the original is still there."""
    return shutil.copytree(trained, tmp_path / "moved" / "demo")


def written(adapter: Path) -> str:
    return str(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])


def rewrite(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_folder_is_written_as_what_is_no_name_on_the_hub(trained: Path) -> None:
    assert written(trained / "adapter") == str(trained / "base")
    training = json.loads((trained / "adapter" / "training.json").read_text(encoding="utf-8"))
    assert training["location"] == "../base" and training["base_content"].startswith("sha256:")
    for path in (trained / "adapter").rglob("*.*"):
        assert b"demo/base" not in path.read_bytes().replace(str(trained / "base").encode(), b""), path
    assert written_base(find_model(trained), trained / "adapter")["location"] == ".."
    assert written_base(find_model(trained / "base"), trained)["location"] == "./base"


def test_peft_alone_loads_it_from_any_directory(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = AutoPeftModelForCausalLM.from_pretrained(trained / "adapter").state_dict()
    ours = load_system(str(trained / "adapter")).network.state_dict()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


def test_a_moved_folder_uses_its_own_base_and_peft_follows(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    assert find_adapter_base(find_model("adapter")).folder == work / "base"
    assert written(work / "adapter") == str(work / "base")
    assert "its base is now at" in capsys.readouterr().err
    again = shutil.move(work, work.with_name("again"))
    mend_moved(Path(again) / "adapter")
    monkeypatch.chdir("/")
    assert AutoPeftModelForCausalLM.from_pretrained(Path(again) / "adapter") is not None


def test_another_model_in_the_bases_place_is_refused(work: Path) -> None:
    shutil.rmtree(work / "base")
    make_base(work / "base", seed=7)
    found = find_adapter_base(find_model(work / "adapter"))  # the original is where it was trained
    assert found.folder != work / "base"
    rewrite(work / "adapter" / "adapter_config.json", base_model_name_or_path="/nowhere/base")
    with pytest.raises(InputError, match=r"is not the base that .* was trained on"):
        find_adapter_base(find_model(work / "adapter"))
    shutil.rmtree(work / "base")
    with pytest.raises(InputError, match="was the folder '/nowhere/base', which is gone"):
        find_adapter_base(find_model(work / "adapter"))


def test_an_adapter_of_an_older_version_finds_the_folder_beside_it(work: Path) -> None:
    rewrite(work / "adapter" / "adapter_config.json", base_model_name_or_path="demo/base")
    training = json.loads((work / "adapter" / "training.json").read_text(encoding="utf-8"))
    old = {key: value for key, value in training.items() if key not in ("base_content", "base_commit")}
    (work / "adapter" / "training.json").write_text(json.dumps(old | {"location": "demo/base"}), encoding="utf-8")
    assert find_adapter_base(find_model(work / "adapter")).folder == work / "base"
    assert written(work / "adapter") == str(work / "base")


def test_a_name_in_an_adapter_never_means_a_folder_of_the_current_directory(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pull(name: str, *_: object, **__: object) -> None:
        asked.append(name)
        raise InputError("asked the Hub")

    monkeypatch.setattr("kollm.services.adapter_base.pull", pull)
    (work / "adapter" / "training.json").unlink()  # as PEFT alone leaves it
    rewrite(work / "adapter" / "adapter_config.json", base_model_name_or_path="demo/base", revision="abc")
    monkeypatch.chdir(work.parent)
    assert Path("demo/base").is_dir()
    with pytest.raises(InputError, match="asked the Hub"):
        find_adapter_base(find_model(work / "adapter"))
    assert asked == ["demo/base@abc"]


@pytest.mark.parametrize("name", ["/etc", "../base", "./base", "~/base", "base", "a/b/c"])
def test_an_adapter_from_the_hub_names_no_folder_of_this_machine(work: Path, name: str) -> None:
    rewrite(work / "adapter" / "adapter_config.json", base_model_name_or_path=name)
    published = LocalModel(work / "adapter", "maker/adapter@abc", "maker/adapter", "abc")
    with pytest.raises(InputError, match="no name on the Hub"):
        find_adapter_base(published)
