"""The diffs of CONTRIBUTING.md apply to the code as it is, and what they add works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_slowest_tests_that_are_named_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(tests/[\w/]+\.py)` `(\w+)` \|", page, re.MULTILINE)
    assert len(named) == 10
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} {name}"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every diff of the page applied."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "kollm", folder / "kollm", ignore=shutil.ignore_patterns("__pycache__"))
    for number, diff in enumerate(DIFF.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))):
        file = folder / f"{number}.diff"
        file.write_text(diff, encoding="utf-8")
        done = subprocess.run(
            ["git", "apply", "--recount", file.name],
            cwd=folder,
            env={**os.environ, "GIT_DIR": str(folder / "none")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{diff}\n{done.stderr}"
    return folder


def run(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_source_and_a_rubric_are_one_file_and_one_line(changed: Path) -> None:
    printed = run(
        changed,
        "from kollm.sources.catalogue import SOURCES\n"
        "from kollm.sources.source import Place\n"
        "from kollm.judge.rubric_file import load_rubric, rubric_names\n"
        "source = SOURCES['ko_quiz']\n"
        "row = {'question': '수도는?', 'hint': '한강', 'answer': '서울입니다.'}\n"
        "(record,) = source.adapt(row, Place(source.name, source.licence, 'ko', 'main', 3)).records\n"
        "print(record.id, record.instruction, record.input, record.output)\n"
        "print(load_rubric('courtesy').prompt('지시', '', '답'))\n",
    )
    assert printed.startswith("ko_quiz-3 수도는? 한강 서울입니다.\n") and "지시: 지시\n답변: 답" in printed


def test_an_engine_and_a_training_method_are_one_file_and_one_line(changed: Path) -> None:
    printed = run(
        changed,
        "import torch\n"
        "from pathlib import Path\n"
        "from kollm.answer.engines import Asked, Weights, load_engine\n"
        "from kollm.recipe.load import parse_recipe\n"
        "from kollm.recipe.methods import METHODS, method_settings\n"
        "from kollm.services.local_model import LocalModel\n"
        "from kollm.train.preference_losses import Given, Said, loss_of\n"
        "engine = load_engine('echo', Weights(LocalModel(Path('.'), 'm'), None, 9, 'float32'))\n"
        "print(engine.answer(Asked([[1, 2, 3]], ['a'], {'max_new_tokens': 2}, [0], None)))\n"
        "recipe = parse_recipe({'method': 'apo', 'base': {'model': 'toy:gpt_neox'}, 'trainer': {'beta': 0.2}}, 'r')\n"
        "two = torch.tensor([-1.0])\n"
        "said = Said(two, two, torch.tensor([1]), torch.tensor([1]))\n"
        "found = loss_of('apo')(Given(said, (two, two), two), method_settings('apo', recipe.trainer))\n"
        "print(found.values.tolist(), found.margins.tolist())\n",
    )
    assert printed == "[[1, 2]]\n[1.0] [0.0]\n"
