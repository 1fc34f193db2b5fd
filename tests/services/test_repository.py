"""Pulling by name: revisions, the commit that is recorded, the cache without a network, and errors in one sentence."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, constants

from kollm.core.errors import InputError, KollmError, ServiceError
from kollm.dataset.folder import dataset_fingerprint, read_records
from kollm.hub import push
from kollm.services.repository import Reference, hub_errors, locate, parse_reference, pull
from tests.hub.conftest import STRANGER
from tests.hub.folders import make_dataset
from tests.servers.hub import LoopbackHub

REPO = "maker/ko-demo"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return make_dataset(folder / "old", limit=4), make_dataset(folder / "new", limit=6)


@pytest.fixture
def two_versions(hub: LoopbackHub, built: tuple[Path, Path]) -> tuple[Path, Path]:
    old, new = built
    push("dataset", old, REPO)
    push("dataset", new, REPO)
    return built


def test_a_revision_is_read_and_recorded_by_commit(hub: LoopbackHub, two_versions: tuple[Path, Path]) -> None:
    old, new = two_versions
    tags = hub.repository("datasets", REPO).tags
    assert locate(f"{REPO}@v1", "dataset").name == f"{REPO}@{tags['v1']}"
    for name, folder in ((f"{REPO}@v1", old), (REPO, new), (f"{REPO}@{tags['v2']}", new)):
        assert list(read_records(name)) == list(read_records(folder))
        assert dataset_fingerprint(name) == dataset_fingerprint(folder)
    assert list(read_records(REPO, revision="v1", config="dolly")) == list(read_records(old, config="dolly"))


def test_offline_after_the_first_time(
    hub: LoopbackHub, two_versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(read_records(f"{REPO}@v1"))
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert list(read_records(f"{REPO}@v1")) == rows
    assert len(hub.requests) == asked
    with pytest.raises(ServiceError, match="is not in the cache"):
        pull(f"{REPO}@v2", "dataset")


def test_a_model_is_pulled_without_pickles_and_code(hub: LoopbackHub) -> None:
    api = HfApi()
    api.create_repo("maker/model")
    for name in ("model.safetensors", "pytorch_model.bin", "modeling.py", "config.json"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id="maker/model")
    assert sorted(path.name for path in pull("maker/model", "model").folder.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("maker/none", "There is no dataset 'maker/none' on the Hub that your token may read"),
        (f"{REPO}@v9", "has no revision 'v9'"),
        (f"{REPO}@", "names no revision after '@'"),
        (f"{REPO}@a b", "names no revision after '@'"),
        ("some-folder", "There is no folder 'some-folder'"),
        ("./a/b", "There is no folder './a/b'"),
        ("maker/na:me", "no repository name that the Hub takes"),
    ],
)
def test_names_that_lead_nowhere(hub: LoopbackHub, two_versions: tuple[Path, Path], name: str, sentence: str) -> None:
    with pytest.raises(KollmError, match=sentence) as caught:
        locate(name, "dataset")
    assert "\n" not in str(caught.value)


def test_private_gated_and_a_hub_that_is_away(
    hub: LoopbackHub, two_versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.repository("datasets", REPO)
    repository.private = True
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(InputError, match=r"(and|or) the token"):
        pull(REPO, "dataset")
    repository.private, repository.gated = False, ()
    with pytest.raises(InputError, match="is gated and this token is not on its list"):
        pull(REPO, "dataset")
    repository.gated = None
    commit = pull(f"{REPO}@v1", "dataset").commit
    hub.cut_after(0)
    assert pull(f"{REPO}@v1", "dataset").commit == commit
    with pytest.raises(ServiceError, match="cannot be reached"):
        pull(f"{REPO}@v2", "dataset")


def test_references() -> None:
    assert parse_reference("a/b") == Reference("a/b")
    assert parse_reference("a/b@v1.2") == Reference("a/b", "v1.2")
    assert str(Reference("a/b", "v1")) == "a/b@v1"


def test_no_network_is_told_from_a_connection_that_broke() -> None:
    for error, said in (
        (
            httpx2.ConnectError("Name or service not known"),
            "cannot be reached for the dataset 'a/b' .* check the network",
        ),
        (httpx2.ReadError("reset by peer"), "connection to the Hub broke at the dataset 'a/b' .* run the same command"),
    ):
        with pytest.raises(ServiceError, match=said), hub_errors("dataset", Reference("a/b")):
            raise error
