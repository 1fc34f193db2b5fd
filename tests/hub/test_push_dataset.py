"""`kollm push dataset` against the loopback Hub: what arrives, what is refused, and that readers never see a half."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from kollm.core.errors import InputError, KollmError, MissingKeyError, ServiceError, StateError
from kollm.core.records import Record
from kollm.dataset.folder import read_records
from kollm.dataset.leak_check import load_references
from kollm.dataset.pairs.make import make_pairs
from kollm.dataset.pairs.settings import PairSettings
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.preferences import read_preferences
from kollm.dataset.settings import SourceInput
from kollm.hub import plan_push, push
from kollm.hub.preparation import Names
from kollm.sources import read_source
from kollm.sources.own import OwnOptions
from tests.hub.conftest import FINE, READER, STRANGER, Client
from tests.hub.folders import make_dataset, make_dataset_with_rejects
from tests.servers.hub import Fault, LoopbackHub

REPO = "maker/ko-demo"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset_with_rejects(tmp_path_factory.mktemp("built") / "dataset")


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    copy = tmp_path / "dataset"
    for path in built.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return copy


def files_at(revision: str) -> dict[str, bytes]:
    """What a reader with an empty cache gets."""
    api = HfApi()
    files = {}
    for name in api.list_repo_files(REPO, repo_type="dataset", revision=revision):
        if name != ".gitattributes":
            path = api.hf_hub_download(REPO, name, repo_type="dataset", revision=revision, force_download=True)
            files[name] = Path(path).read_bytes()
    return files


def test_everything_in_one_commit_then_a_tag(hub: LoopbackHub, dataset: Path) -> None:
    published = push("dataset", dataset, REPO)[-1]
    repository = hub.repository("datasets", REPO)

    assert len(repository.commits) == 2, "the Hub's own initial commit, and ours"
    assert (repository.head.oid, repository.tags) == (published.commit, {"v1": published.commit})
    names = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file()}
    assert set(published.sent) == names | {"dataset_info.json"} == set(files_at("v1"))
    card = files_at("v1")["README.md"].decode()
    assert f'load_dataset("{REPO}")' in card and "PATH_OR_ID" not in card
    order = [request for request in hub.requests if request.startswith(("PUT", "POST"))]
    assert order[-2].startswith(f"POST /api/datasets/{REPO}/commit") and "/tag/" in order[-1]


def test_unchanged_is_not_sent_again(hub: LoopbackHub, dataset: Path) -> None:
    first = push("dataset", dataset, REPO)[-1]
    uploads, commits = len(hub.uploads), len(hub.repository("datasets", REPO).commits)
    again = push("dataset", dataset, REPO)[-1]
    assert (again.commit, again.tag, again.sent) == (first.commit, "v1", ())
    assert (len(hub.uploads), len(hub.repository("datasets", REPO).commits)) == (uploads, commits)


def test_a_new_version_takes_stale_files_away(hub: LoopbackHub, dataset: Path, tmp_path: Path) -> None:
    first = push("dataset", dataset, REPO)[-1]
    before = files_at("v1")
    smaller = make_dataset(tmp_path / "smaller", limit=115, sources=("gpt4_llm",))
    second = push("dataset", smaller, REPO)[-1]

    assert (second.tag, second.commit) != (first.tag, first.commit)
    assert "gpt4-llm/train-00000.parquet" not in second.sent, "the same bytes are there already"
    assert not any(name.startswith("sharegpt/") for name in files_at("main"))
    assert files_at("v1") == before


def test_the_parts_load_by_name_and_the_cards_snippet_runs(hub: LoopbackHub, dataset: Path, client: Client) -> None:
    push("dataset", dataset, REPO)
    snippet = re.findall(r"```python\n(.*?)```", files_at("main")["README.md"].decode(), re.DOTALL)
    printed = client(f"""
from datasets import get_dataset_config_names
{snippet[0]}
print(rows["train"]["id"][:])
print(get_dataset_config_names("{REPO}"))
print(load_dataset("{REPO}", revision="v1", split="train")["id"][:])
print([row["id"] for row in load_dataset("{REPO}", "dolly", split="train", streaming=True)])
print(load_dataset("{REPO}", "rejected", split="train")["reason"][:])
""").splitlines()
    by_default, configs, pinned, dolly, reasons = (ast.literal_eval(line) for line in printed)
    ids = [record.id for record in read_records(dataset)]
    assert configs == ["all", "dolly", "gpt4-llm", "sharegpt", "rejected"]
    assert by_default == pinned and sorted(pinned) == sorted(ids)
    assert dolly == [name for name in ids if name.startswith("dolly-")]
    assert reasons == ["duplicate_exact: dolly-0"]


def test_llama_factory_entries(hub: LoopbackHub, dataset: Path) -> None:
    push("dataset", dataset, REPO)
    entries = json.loads(files_at("main")["dataset_info.json"])
    assert set(entries) == {"ko-demo", "ko-demo-dolly", "ko-demo-gpt4-llm", "ko-demo-sharegpt"}
    row = next(iter(read_records(dataset, config="sharegpt"))).to_row()
    for entry in entries.values():
        assert entry["hf_hub_url"] == REPO
        assert all(column in row for column in entry["columns"].values())
        assert {"history", "system", "tools"} <= set(entry["columns"])


def make_preferences(folder: Path, instruction: str = "인사해 줘") -> Path:
    rows = folder.with_suffix(".jsonl")
    rows.write_text(json.dumps({"prompt": instruction, "chosen": "안녕하세요.", "rejected": "뭐"}), encoding="utf-8")
    make_pairs([rows], folder, PairSettings(own=OwnOptions(licence="CC-BY-4.0"), against=()))
    return folder


def test_preferences_are_pushed_and_read_back(hub: LoopbackHub, tmp_path: Path, client: Client) -> None:
    folder = make_preferences(tmp_path / "prefs")
    published = push("dataset", folder, REPO)[-1]
    assert client(f"{published.snippet}\nprint(rows['train']['chosen'][:])").splitlines() == ["['안녕하세요.']"]
    assert list(read_preferences(REPO)) == list(read_preferences(folder))
    entries = json.loads(files_at("main")["dataset_info.json"])
    assert entries["ko-demo"]["ranking"] is True and entries["ko-demo"]["subset"] == "preferences"
    row = next(read_preferences(folder)).to_row()
    assert all(column in row for column in entries["ko-demo"]["columns"].values())


def test_preferences_with_an_evaluation_task_are_refused(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kollm.hub.preparation.load_references", lambda names: load_references(["sample"]))
    task = next(row for row in read_source("human_eval", "sample") if isinstance(row, Record) and row.input)
    with pytest.raises(InputError, match=r"has 1 training row that holds an evaluation task"):
        push("dataset", make_preferences(tmp_path / "prefs", f"{task.instruction}\n{task.input}"), REPO)


def test_dry_run_sends_nothing(hub: LoopbackHub, dataset: Path) -> None:
    plan = plan_push("dataset", dataset, REPO)[-1]
    assert set(plan.changes.values()) == {"new"}
    assert not hub.repositories and not hub.uploads


def test_private_and_a_tag_of_ones_own(hub: LoopbackHub, dataset: Path) -> None:
    published = push("dataset", dataset, REPO, private=True, tag="2026-11")[-1]
    assert hub.repository("datasets", REPO).private
    assert hub.repository("datasets", REPO).tags == {"2026-11": published.commit}
    assert 'revision="2026-11"' in published.snippet


def test_an_organisation_and_a_fine_grained_token(
    hub: LoopbackHub, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", FINE)
    assert push("dataset", dataset, "lab/ko-demo")[-1].tag == "v1"
    with pytest.raises(InputError, match="may not make repositories under 'maker'"):
        push("dataset", dataset, REPO)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add_secret(folder: Path) -> None:
    """A token as the Hub draws them, in two pieces so that none stands in this file; a repeated text would be a stand-in."""
    edit(folder / "README.md", "## Licence", "hf_" + "qZ7bTn4KxW9sLr2VyGp5MhCd8JfEuA3Bto" + "\n\n## Licence")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no dataset folder: it has no manifest.json"),
    "a changed file": (lambda f: (f / "dolly/train-00000.parquet").write_bytes(b"x"), "not as it was built"),
    "a file too many": (lambda f: (f / "dolly/train-00009.parquet").write_bytes(b"x"), "not listed in manifest"),
    "no card": (lambda f: (f / "README.md").unlink(), "has no README.md"),
    "card is no YAML": (lambda f: edit(f / "README.md", "language:", "language: [ko"), "YAML at the head of the card"),
    "card without YAML": (lambda f: (f / "README.md").write_text("# Data\n"), "license: None"),
    "a freer licence": (
        lambda f: edit(f / "README.md", "license: cc-by-sa-3.0", "license: apache-2.0"),
        "which makes cc-by-sa-3.0",
    ),
    "a glob without files": (lambda f: edit(f / "README.md", "path: dolly/", "path: doly/"), "no file is called so"),
    "the Hub's own rule": (lambda f: edit(f / "README.md", "- ko\n", "- Korean\n"), "does not take the card"),
    "a token in the card": (add_secret, r"README.md \(Hugging Face token\)"),
    "a pickle": (lambda f: (f / "index.pkl").write_bytes(b"x"), "pickled code"),
    "another file": (lambda f: (f / "notes.docx").write_bytes(b"x"), "is no file of a dataset"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_folder_is_one_sentence_and_nothing_is_pushed(name: str, hub: LoopbackHub, dataset: Path) -> None:
    spoil, sentence = SPOILED[name]
    spoil(dataset)
    with pytest.raises(KollmError, match=sentence) as caught:
        push("dataset", dataset, REPO)
    assert "\n" not in str(caught.value)
    assert not hub.repositories and not hub.uploads


def test_a_row_with_a_key_is_named_and_can_be_allowed(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(tmp_path / "d", limit=3, sources=("dolly",))
    word = next(iter(read_records(dataset))).output[:14]
    monkeypatch.setenv("SOME_API_KEY", word)
    with pytest.raises(InputError, match="value of SOME_API_KEY") as caught:
        push("dataset", dataset, REPO)
    assert word not in str(caught.value)
    place = str(caught.value).rpartition("--allow '")[2].rstrip("'.")
    assert push("dataset", dataset, REPO, names=Names(allowed=(place,)))[-1].tag == "v1"


@pytest.mark.parametrize(
    ("token", "repository", "error", "sentence"),
    [
        ("", REPO, MissingKeyError, "HF_TOKEN is not set"),
        (READER, REPO, InputError, "may only read"),
        (STRANGER, REPO, InputError, "'maker' is not yours to publish under - this token belongs to stranger"),
        ("hf_nobody", REPO, ServiceError, "does not know this token"),
        ("hf_writer", "ko-demo", InputError, "no repository name"),
        ("hf_writer", "maker/ko--demo", InputError, "no repository name"),
        ("hf_writer", "maker/한국어", InputError, "no repository name"),
        ("hf_writer", "maker/a/b", InputError, "no repository name"),
    ],
)
def test_who_and_where(
    hub: LoopbackHub,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repository: str,
    error: type[KollmError],
    sentence: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(error, match=sentence):
        push("dataset", dataset, repository)
    assert not hub.repositories


def test_names_that_are_taken(hub: LoopbackHub, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = HfApi()
    api.create_repo(REPO, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"a,b\n", path_in_repo="data.csv", repo_id=REPO, repo_type="dataset")
    before = hub.repository("datasets", REPO).head
    with pytest.raises(InputError, match="holds something else than a dataset of kollm's"):
        push("dataset", dataset, REPO)
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    with pytest.raises(InputError, match="this token may not write to it"):
        push("dataset", dataset, REPO)
    assert hub.repository("datasets", REPO).head == before


def test_tags_and_visibility_that_clash(hub: LoopbackHub, dataset: Path, tmp_path: Path) -> None:
    push("dataset", dataset, REPO)
    other = make_dataset(tmp_path / "other", limit=5)
    with pytest.raises(InputError, match=r"'v1' already names revision .* e.g. v2"):
        push("dataset", other, REPO, tag="v1")
    with pytest.raises(InputError, match="is no name for a tag"):
        push("dataset", other, REPO, tag="a tag")
    with pytest.raises(InputError, match="exists and is public"):
        push("dataset", other, REPO, private=True)
    assert len(hub.repository("datasets", REPO).commits) == 2


def test_somebody_else_commits_meanwhile(hub: LoopbackHub, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push("dataset", dataset, REPO)
    edit(dataset / "README.md", "## Licence", "## The licence")
    commit = HfApi.create_commit

    def late(api: HfApi, *args: object, **kwargs: object) -> object:
        monkeypatch.setattr(HfApi, "create_commit", commit)
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=REPO, repo_type="dataset")
        return commit(api, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(StateError, match="Somebody else has changed"):
        push("dataset", dataset, REPO)
    assert "v2" not in hub.repository("datasets", REPO).tags


def test_faults_are_ridden_out_or_said(hub: LoopbackHub, dataset: Path) -> None:
    hub.faults = [Fault("PUT", "/storage/", after=3000), Fault("POST", "/objects/batch", status=503)]
    push("dataset", dataset, REPO)
    hub.faults = [Fault("GET", "/tree/", status=500, times=99)]
    with pytest.raises(ServiceError, match=r"answered 500 .* still whole"):
        push("dataset", dataset, REPO)


@pytest.mark.nightly("tests/hub/test_push_dataset.py::test_a_first_push_that_is_cut")
def test_cut_at_random_moments(hub: LoopbackHub, dataset: Path, tmp_path: Path) -> None:
    """Whatever is cut, a reader has v1 and either the whole old or the whole new main; the next push completes it."""
    first = push("dataset", dataset, REPO)[-1].commit
    old = files_at("v1")
    newer = make_dataset(tmp_path / "newer", limit=20)
    start = hub.bytes_passed
    push("dataset", newer, REPO)
    length = hub.bytes_passed - start
    new = files_at("main")
    chance = random.Random(6)
    for _ in range(8):
        hub.repository("datasets", REPO).rewind(first)
        hub.cut_after(chance.randrange(length))
        with pytest.raises(ServiceError, match=r"broke|reach"):
            push("dataset", newer, REPO)
        hub.mend()
        assert files_at("v1") == old
        assert files_at("main") in (old, new)
        assert push("dataset", newer, REPO)[-1].tag == "v2"
        assert files_at("v2") == files_at("main") == new


def test_a_first_push_that_is_cut(hub: LoopbackHub, dataset: Path) -> None:
    """There is no repository, an empty one, or all of it; the next push completes it as v1."""
    start = hub.bytes_passed
    push("dataset", dataset, REPO)
    length, whole = hub.bytes_passed - start, files_at("v1")
    chance = random.Random(7)
    for _ in range(5):
        hub.repositories.clear()
        hub.cut_after(chance.randrange(length))
        with pytest.raises(ServiceError, match=r"broke|reach"):
            push("dataset", dataset, REPO)
        hub.mend()
        assert not hub.repositories or files_at("main") in ({}, whole)
        assert push("dataset", dataset, REPO)[-1].tag == "v1"
        assert files_at("v1") == whole
        assert len(hub.repository("datasets", REPO).commits) == 2


def test_a_row_that_holds_an_evaluation_task_stops_the_push(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build can be told to keep such a row; the bundled tasks stand in for the 252, whose text kollm does not carry."""
    monkeypatch.setattr("kollm.hub.preparation.load_references", lambda names: load_references(["sample"]))
    task = next(row for row in read_source("human_eval", "sample") if isinstance(row, Record) and row.input)
    rows = tmp_path / "rows.json"
    rows.write_text(
        json.dumps([{"instruction": task.instruction, "input": task.input, "output": "An answer."}]), encoding="utf-8"
    )
    build_dataset(
        [SourceInput("gpt4_llm", rows)],
        translator="none",
        output=tmp_path / "d",
        leaks="keep",
        filters="none",
        against=(),
    )
    with pytest.raises(InputError, match=r"has 1 training row that holds an evaluation task, e\.g\. gpt4_llm-0 holds"):
        push("dataset", tmp_path / "d", REPO)
    assert not hub.repositories
