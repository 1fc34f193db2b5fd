"""The metric's folder as a Space on the loopback Hub: `evaluate.load` by name and revision in a fresh process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

import kollm
from kollm.core.errors import InputError
from kollm.hub import push
from kollm.report.published import SIX_AXES
from tests.hub.conftest import Client
from tests.servers.chat import LoopbackChat
from tests.servers.hub import LoopbackHub

REPO = "maker/kollm_judge"
REPLY = """- 이해 가능성 (0 - 1): 1
- 자연스러움 (1 - 3): 3
- 맥락 유지 (1 - 3): 2
- 흥미롭기 (1 - 3): 2
- 지시어 사용 (0 - 1): 1
- 전반적인 품질 (1 - 5): 4
"""


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
    of_card = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0] + "print([result[axis] for axis in AXES])\n"
    with LoopbackChat(lambda body: REPLY) as chat:
        printed = client(
            code + by_commit + f"AXES = {SIX_AXES}\n" + of_card,
            home=tmp_path / "home",
            OPENAI_API_KEY="sk-none",
            OPENAI_BASE_URL=chat.url,
        )
    assert printed.splitlines() == ["[1, 1, None]", "[1, 1, None]", "[1.0, 3.0, 2.0, 2.0, 1.0, 4.0]"]
    assert len(chat.bodies) == 1


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
