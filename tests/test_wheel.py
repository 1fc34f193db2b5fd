"""The wheel works outside a checkout: it is built, unpacked far from the sources, and asked for what it carries."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site: Path, code: str) -> str:
    # -P: the checkout, where pytest runs, must not be on the path.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_wheel_carries_every_folder(unpacked: Path) -> None:
    for name in (
        "kollm/recipe/recipes/demo.yaml",
        "kollm/recipe/templates/kullm-2023.jinja",
        "kollm/sources/sample_rows/gpt4_llm.ko.jsonl",
        "kollm/judge/rubrics/kullm2023.yaml",
        "kollm/metrics/kollm_judge/kollm_judge.py",
        "kollm/_bundled/accelerate_configs/ddp_4gpu.yaml",
    ):
        assert (unpacked / name).is_file(), name
    assert list((unpacked / "kollm/_bundled/model_cards").iterdir())


def test_the_wheel_installs_no_other_package(unpacked: Path) -> None:
    """A package `tests` or `benchmarks` would stand in the way of a user's own."""
    (about,) = unpacked.glob("kollm-*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {"kollm", about.name}


def test_the_wheel_finds_its_own_files(unpacked: Path) -> None:
    code = (
        "import kollm, kollm.core.resources as r; print(kollm.__file__); "
        "print(*(r.resource_folder(n) for n in ('recipe/recipes', 'recipe/templates', 'sources/sample_rows', 'accelerate_configs', 'model_cards')), "
        "kollm.metric_path(), sep='\\n')"
    )
    paths = [Path(line) for line in python(unpacked, code).splitlines()]
    assert all(path.is_relative_to(unpacked) and path.exists() for path in paths), paths


def test_the_wheel_builds_a_dataset(unpacked: Path, tmp_path: Path) -> None:
    code = f"from kollm.cli import main; main(['data', 'build', 'dolly', '--input', 'sample', '-o', {str(tmp_path / 'ko')!r}])"
    assert "dolly: " in python(unpacked, code)
    assert (tmp_path / "ko" / "manifest.json").is_file()


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment(tmp_path: Path) -> None:
    """What a release is: the base packages alone, without an extra, and the commands that need none."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    binaries = tmp_path / "venv" / "bin"
    wanted = ["install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    if (uv := Path(sys.executable).with_name("uv")).exists():  # a tenth of what pip takes
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
        subprocess.run([uv, "pip", *wanted, "--python", binaries / "python"], check=True, cwd=tmp_path)
    else:
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        subprocess.run([binaries / "python", "-m", "pip", *wanted], check=True, cwd=tmp_path)
    environment = {**os.environ, "PYTHONPATH": ""}
    for command in (["--version"], ["recipe", "list"], ["recipe", "show", "demo"], ["train", "--help"]):
        subprocess.run([binaries / "kollm", *command], check=True, cwd=tmp_path, env=environment, capture_output=True)
    done = subprocess.run(
        [binaries / "kollm", "run", "demo", "-o", "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "pip install 'kollm[" in done.stderr and "Traceback" not in done.stderr


def test_the_wheel_says_that_it_is_typed(unpacked: Path) -> None:
    assert (unpacked / "kollm" / "py.typed").is_file()
