"""The loopback Hub itself: what the real huggingface_hub does against it, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.conftest import READER, STRANGER
from tests.servers.hub import Fault, LoopbackHub

REPO = "maker/data"
CARD = b"---\nlicense: mit\n---\n# Data\n"


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    api = HfApi()
    api.create_repo(REPO, repo_type="dataset")
    return api


def commit(api: HfApi, **files: bytes) -> str:
    operations = [CommitOperationAdd(path.replace("__", "/"), content) for path, content in files.items()]
    return str(api.create_commit(REPO, operations, commit_message="files", repo_type="dataset").oid)


def names(api: HfApi, revision: str = "main") -> list[str]:
    return api.list_repo_files(REPO, repo_type="dataset", revision=revision)


def test_commit_tag_and_read_back(api: HfApi, hub: LoopbackHub) -> None:
    first = commit(api, **{"README.md": CARD, "a__b.parquet": b"x" * 1000})
    api.create_tag(REPO, tag="v1", revision=first, repo_type="dataset")
    second = commit(api, **{"README.md": CARD + b"more\n"})

    assert names(api) == [".gitattributes", "README.md", "a/b.parquet"]
    assert Path(api.hf_hub_download(REPO, "README.md", repo_type="dataset", revision="v1")).read_bytes() == CARD
    assert Path(api.hf_hub_download(REPO, "a/b.parquet", repo_type="dataset")).read_bytes() == b"x" * 1000
    refs = api.list_repo_refs(REPO, repo_type="dataset")
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
    assert [row.commit_id for row in api.list_repo_commits(REPO, repo_type="dataset")][:2] == [second, first]
    assert len(hub.uploads) == 1


def test_unchanged_large_file_is_not_sent_again(api: HfApi, hub: LoopbackHub) -> None:
    commit(api, **{"a.parquet": b"x" * 1000})
    commit(api, **{"a.parquet": b"x" * 1000, "b.txt": b"new"})
    assert len(hub.uploads) == 1


def test_upload_in_parts(api: HfApi, hub: LoopbackHub) -> None:
    content = bytes(range(256)) * 40
    hub.part_size = 3000
    commit(api, **{"big.safetensors": content})
    assert Path(api.hf_hub_download(REPO, "big.safetensors", repo_type="dataset")).read_bytes() == content
    assert sum(request.startswith("PUT") and "/parts/" in request for request in hub.requests) == 4


def test_tree_is_paged(api: HfApi, hub: LoopbackHub) -> None:
    hub.page_size = 3
    commit(api, **{f"d__{number}.txt": b"%d" % number for number in range(7)})
    assert len(names(api)) == 8
    assert len(Path(api.snapshot_download(REPO, repo_type="dataset"), "d").resolve().parts) > 1
    assert [entry.path for entry in api.get_paths_info(REPO, ["d", "d/3.txt", "no"], repo_type="dataset")] == [
        "d",
        "d/3.txt",
    ]


def test_ranges_and_etags(api: HfApi, hub: LoopbackHub) -> None:
    commit(api, **{"a.parquet": b"0123456789", "small.txt": b"abcdef"})
    url = f"{hub.endpoint}/datasets/{REPO}/resolve/main/a.parquet"
    part = requests.get(url, headers={"Range": "bytes=2-4"}, timeout=5)
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert requests.get(url, headers={"Range": "bytes=-3"}, timeout=5).content == b"789"
    assert requests.get(url, headers={"Range": "bytes=10-"}, timeout=5).status_code == 416
    assert requests.head(url, allow_redirects=True, timeout=5).headers["ETag"] == f'"{hub.uploads[0]}"'


def test_commit_is_all_or_nothing(api: HfApi, hub: LoopbackHub) -> None:
    before = commit(api, **{"a.txt": b"a"})
    operations = [CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("missing.txt")]
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(REPO, operations, commit_message="m", repo_type="dataset")
    stale = hub.repository("datasets", REPO).head.parent
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.create_commit(
            REPO, [CommitOperationAdd("c.txt", b"c")], commit_message="m", repo_type="dataset", parent_commit=stale
        )
    assert hub.repository("datasets", REPO).head.oid == before


def test_bad_card_is_refused(api: HfApi) -> None:
    with pytest.raises(ValueError, match="license"):
        commit(api, **{"README.md": b"---\nlicense: free-for-all\n---\n"})


def test_who_may_write(api: HfApi) -> None:
    operation = CommitOperationAdd("a.txt", b"a")
    for token in (READER, STRANGER):
        with pytest.raises(HfHubHTTPError, match="403"):
            HfApi(token=token).create_commit(REPO, [operation], commit_message="m", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token=STRANGER).create_repo("maker/other")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_unknown").whoami()


def test_private_gated_and_missing(api: HfApi, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(api, **{"a.txt": b"a"})
    repository = hub.repository("datasets", REPO)
    repository.gated = ()
    with pytest.raises(GatedRepoError):
        api.hf_hub_download(REPO, "a.txt", repo_type="dataset", token=STRANGER)
    repository.gated = ("stranger",)
    assert api.hf_hub_download(REPO, "a.txt", repo_type="dataset", token=STRANGER)
    repository.private = True
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=STRANGER).dataset_info(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("maker/none")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(REPO, revision="v9")


def test_client_rides_out_429_5xx_and_a_cut_upload(api: HfApi, hub: LoopbackHub) -> None:
    hub.faults = [
        Fault("POST", "/preupload/", status=429, headers={"Retry-After": "0"}),
        Fault("POST", "/objects/batch", status=503),
        Fault("PUT", "/storage/", after=5000),
        Fault("PUT", "/storage/", status=500),
    ]
    commit(api, **{"a.parquet": b"x" * 20_000})
    assert [fault.times for fault in hub.faults] == [0, 0, 0, 0]
    assert len(hub.uploads) == 1


def test_cut_line_stays_cut_until_mended(api: HfApi, hub: LoopbackHub) -> None:
    hub.cut_after(200)
    with pytest.raises(Exception, match=r"reset|refused|disconnected"):
        commit(api, **{"a.txt": b"a"})
    with pytest.raises(Exception, match=r"reset|refused|disconnected"):
        api.whoami()
    hub.mend()
    assert api.whoami()["name"] == "maker"


def test_unknown_route_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no route: GET /api/nonsense"), LoopbackHub() as hub:
        assert requests.get(f"{hub.endpoint}/api/nonsense", timeout=5).status_code == 501


def test_token_sent_to_the_storage_host_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="token was sent to the storage host"), LoopbackHub() as hub:
        requests.get(f"{hub.storage}/storage/models/a/b/{'0' * 64}", headers={"Authorization": "Bearer x"}, timeout=5)
