"""`kollm push`: what it prints, and that an error is one sentence with exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.cli import main
from tests.hub.folders import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("push") / "dataset", limit=4)


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def test_dry_run_lists_every_file_and_the_card(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / ".cache").write_text("x")
    main(["push", "dataset", str(dataset), "maker/ko-demo", "--dry-run"])
    printed = capsys.readouterr().out
    assert printed.startswith("dataset maker/ko-demo, tag v1 (not compared with the Hub: no HF_TOKEN)")
    for path in (path for path in dataset.rglob("*") if path.is_file() and path.name != ".cache"):
        assert path.relative_to(dataset).as_posix() in printed
    assert "left out" in printed and ".cache" in printed
    assert 'load_dataset("maker/ko-demo")' in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dataset", "{dataset}", "maker/ko-demo"], "HF_TOKEN is not set"),
        (["dataset", "nowhere", "maker/ko-demo"], "'nowhere' is not a folder"),
        (["dataset", "{dataset}", "ko-demo"], "no repository name"),
        (["adapter", "{dataset}", "maker/ko-demo"], "is no adapter folder: it has no adapter_config.json"),
        (["metric", "{dataset}", "maker/ko-demo"], "is no metric folder"),
    ],
)
def test_errors(arguments: list[str], sentence: str, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["push", *(text.format(dataset=dataset) for text in arguments)])
    printed = capsys.readouterr()
    assert stop.value.code == 1
    assert printed.err.startswith("Error: ") and printed.err.count("\n") == 1
    assert sentence in printed.err and "Traceback" not in printed.err


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["push", "pictures", "x", "a/b"])
    assert stop.value.code == 2
