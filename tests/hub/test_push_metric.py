"""The metric's folder as a Space on the loopback Hub: `evaluate.load` by name and revision in a fresh process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

import kollm
from kollm.errors import InputError
from kollm.hub import push
from tests.hub.conftest import Client
from tests.servers.hub import LoopbackHub

REPO = "maker/kollm_judge"


@pytest.fixture
def metric() -> Path:
    return Path(kollm.metric_path())


def test_a_space_that_evaluate_loads(hub: LoopbackHub, metric: Path, client: Client, tmp_path: Path) -> None:
    published = push("metric", metric, REPO)[-1]
    repository = hub.repository("spaces", REPO)
    assert repository.sdk == "gradio"
    assert not any("__pycache__" in name for name in repository.head.files)
    card = repository.head.files["README.md"].content.decode()
    assert f'evaluate.load("{REPO}"' in card and "ORG/" not in card

    code = published.snippet + (
        'result = judge.compute(predictions=[None], instructions=["대한민국의 수도는?"], inputs=[""])\n'
        'print([result["n"], result["n_failed"], result["overall_quality"]])\n'
    )
    by_commit = code.replace('revision="v1"', f'revision="{published.commit}"')
    printed = client(code + by_commit, OPENAI_API_KEY="sk-none", home=tmp_path / "home")
    assert printed.splitlines() == ["[1, 1, None]"] * 2


def test_the_name_must_be_the_scripts(hub: LoopbackHub, metric: Path) -> None:
    with pytest.raises(InputError, match=r"as maker/kollm_judge\.$"):
        push("metric", metric, "maker/my_judge")
    assert not hub.repositories


def test_a_folder_without_the_app(hub: LoopbackHub, metric: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(metric, tmp_path / "kollm_judge", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "app.py").unlink()
    with pytest.raises(InputError, match=r"no metric folder: it has no app.py"):
        push("metric", copy, REPO)
    (copy / "requirements.txt").unlink()
    with pytest.raises(InputError, match=r"no metric folder: it has no requirements.txt"):
        push("metric", copy, REPO)


def test_unchanged_is_not_sent_again(hub: LoopbackHub, metric: Path) -> None:
    first = push("metric", metric, REPO)[-1]
    assert push("metric", metric, REPO)[-1]._replace(sent=first.sent) == first
    assert [ref.name for ref in HfApi().list_repo_refs(REPO, repo_type="space").tags] == ["v1"]
