"""Checkpoints go to the Hub in order and whole while a training runs; what fails is said, and tried again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi, hf_hub_download

from kollm.cli import cli
from kollm.core.errors import InputError, KollmError, StateError
from kollm.core.files import file_sha256, read_json
from kollm.core.ownership import list_files, write_sealed
from kollm.hub import checkpoints
from kollm.hub.checkpoints import Pushes
from kollm.hub.preparation import Names
from kollm.train.outbox import sent_steps, waiting
from tests.hub.folders import make_adapter, make_base, make_dataset
from tests.servers.hub import Fault, LoopbackHub

REPO = "maker/ko-toy-steps"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a base, a finished adapter, and two checkpoints of it, which differ."""
    work = tmp_path_factory.mktemp("made")
    make_dataset(work / "dataset")
    make_base(work / "base")
    adapter = make_adapter(work / "adapter", work / "base", work / "dataset")
    for step in (2, 4):
        folder = work / f"step-{step}"
        shutil.copytree(adapter, folder)
        metrics = read_json(folder / "metrics.json")
        metrics["heldout"]["rows"] = 0
        metrics["history"] = metrics["history"][: step // 2]
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        about = {**read_json(folder / "training.json"), "checkpoint": {"step": step, "of": 6}}
        (folder / "training.json").unlink()
        write_sealed(folder / "training.json", {**about, "files": list_files(folder)})
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work", dirs_exist_ok=True)
    return tmp_path / "work"


def pushes(work: Path) -> Pushes:
    return Pushes(work / "adapter", REPO, Names(dataset=str(work / "dataset"), unjudged=True))


def save(work: Path, step: int) -> None:
    """A checkpoint appears, as training sets it aside."""
    (work / "adapter" / "outbox").mkdir(exist_ok=True)
    (work / f"step-{step}").rename(work / "adapter" / "outbox" / f"step-{step}")


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def tags() -> list[str]:
    return sorted(tag.name for tag in HfApi().list_repo_refs(REPO).tags)


def test_checkpoints_are_sent_while_it_trains_and_the_adapter_at_the_end(
    hub: LoopbackHub, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.1)
    output = work / "adapter"
    weights = file_sha256(work / "step-2" / "adapter_model.safetensors")
    sender = pushes(work)
    sender.check(str(work / "base"), None, str(work / "dataset"))
    with sender:
        save(work, 2)
        until(lambda: sent_steps(output) == {2})
        assert tags() == ["step-2"]
        save(work, 4)
        until(lambda: sent_steps(output) == {2, 4})
    sender.finish()
    assert tags() == ["step-2", "step-4", "v1"]
    messages = [commit.title for commit in HfApi().list_repo_commits(REPO)]
    assert [message.partition(":")[0] for message in messages[:3]] == ["v1", "step-4", "step-2"]
    card = Path(hf_hub_download(REPO, "README.md", revision="step-2")).read_text(encoding="utf-8")
    assert "**This is step 2 of 6 of a training that had not ended when it was published.**" in card
    assert str(work) not in card
    assert file_sha256(Path(hf_hub_download(REPO, "adapter_model.safetensors", revision="step-2"))) == weights
    last = Path(hf_hub_download(REPO, "README.md", revision="v1")).read_text(encoding="utf-8")
    assert "This is step" not in last
    names = HfApi().list_repo_files(REPO)
    assert not [name for name in names if "outbox" in name or "checkpoint" in name]
    assert waiting(output) == []
    assert "push: step 4 is on the Hub" in capsys.readouterr().err
    pushes(work).check(str(work / "base"), None, str(work / "dataset"))
    pushes(work).finish()
    assert tags() == ["step-2", "step-4", "v1"], "the same command again sends nothing new"


def test_a_failed_push_stops_nothing_and_keeps_the_order(
    hub: LoopbackHub, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.1)
    hub.faults.append(Fault("POST", f"/api/models/{REPO}/commit/main", status=403, times=1))
    with pushes(work) as sender:
        save(work, 2)
        until(lambda: sender._failed == [2])
        save(work, 4)  # a newer one: both are tried, the older first
        until(lambda: sent_steps(work / "adapter") == {2, 4})
    said = capsys.readouterr().err
    assert said.index("push: step 2 is not on the Hub yet: ") < said.index("push: step 2 is on the Hub")
    assert said.index("push: step 2 is on the Hub") < said.index("push: step 4 is on the Hub")


def test_a_secret_is_never_sent_and_the_end_says_what_is_left(
    hub: LoopbackHub, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = work / "step-4" / "metrics.json"
    path.write_text(path.read_text()[:-1] + ', "note": "hf_' + "aB3dE5gH7jK9mN1pQ4sT6vW8xY0zA2cE4f" + '"}')
    save(work, 2)
    save(work, 4)
    with pytest.raises(StateError, match="its checkpoints of the steps 4 are not on the Hub"):
        pushes(work).finish()
    assert tags() == ["step-2"]
    said = capsys.readouterr().err
    assert "What looks like a secret stands in metrics.json" in said
    assert "aB3dE5" not in said
    assert [folder.name for folder in waiting(work / "adapter")] == ["step-4"]


def test_what_would_stop_every_push_is_said_before_training(
    hub: LoopbackHub, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, dataset = str(work / "base"), str(work / "dataset")
    (work / "base" / "toy.json").unlink()
    with pytest.raises(InputError, match="is a folder, which nobody else has - publish it with `kollm push model`"):
        pushes(work).check(base, None, dataset)
    card = work / "dataset" / "README.md"
    card.write_text("---\nlanguage: ko\n---\n", encoding="utf-8")
    with pytest.raises(
        InputError, match="names no licence, which a push needs - name that of rows of yours with --licence"
    ):
        pushes(work).check(base, None, dataset)
    with pytest.raises(InputError, match="is not yours to publish under"):
        Pushes(work / "adapter", "another/x", Names()).check(base, None, dataset)
    with pytest.raises(InputError, match="is no repository name"):
        Pushes(work / "adapter", "x", Names()).check(base, None, dataset)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(InputError, match="may only read"):
        pushes(work).check(base, None, dataset)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(KollmError, match="HF_TOKEN"):
        pushes(work).check(base, None, dataset)


def test_checkpoints_of_another_training_are_not_continued(hub: LoopbackHub, work: Path) -> None:
    save(work, 2)
    assert pushes(work)._send()
    shutil.rmtree(work / "adapter" / "outbox")
    with pytest.raises(InputError, match=r"holds checkpoints of another training \(step-2\)"):
        pushes(work).check(str(work / "base"), None, str(work / "dataset"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--push-to", REPO, "--sweep", "seed=1,2"], "--push-to publishes one training - leave out --sweep"),
        (["--push-to", REPO, "--smoke"], "--push-to publishes one training - leave out --smoke"),
        (["--private"], "--private is for --push-to"),
    ],
)
def test_options_that_do_not_go_together(extra: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["train", "demo", "--dataset", "D", "-o", "OUT", *extra])
    assert result.exit_code == 2
    assert words in result.output
