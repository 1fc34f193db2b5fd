"""`kollm push`: what it prints, and that an error is one sentence with exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.cli import main
from kollm.core.errors import InputError
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
    for arguments in (["pictures", "x", "a/b"], ["dataset", "a/b"]):
        with pytest.raises(SystemExit) as stop:
            main(["push", *arguments])
        assert stop.value.code == 2
    assert "Missing argument 'ORG/NAME'." in capsys.readouterr().err


def test_the_metric_is_published_without_naming_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    main(["push", "metric", "maker/kollm_judge", "--dry-run"])
    assert "kollm_judge.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("https://huggingface.co", "Files and HF_TOKEN go to https://huggingface.co."),
        (
            "https://hub.strange.kr",
            "Files and HF_TOKEN go to https://hub.strange.kr, which is NOT huggingface.co but what HF_ENDPOINT names.",
        ),
        (
            "http://huggingface.co.evil.kr:8080",
            "Files and HF_TOKEN go to http://huggingface.co.evil.kr:8080, which is NOT huggingface.co but what HF_ENDPOINT names, unencrypted.",
        ),
        ("https://me:secret@hub", "Error: The address in HF_ENDPOINT 'https://hub' holds a user or password"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_who_gets_the_token_is_said_before_the_first_request(
    endpoint: str,
    sentence: str,
    dry_run: bool,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import HfApi, constants

    said_before: list[str] = []

    def whoami(_: object) -> None:
        said_before.append(capsys.readouterr().err)
        raise InputError("asked")

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(HfApi, "whoami", whoami)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with pytest.raises(SystemExit):
        main(["push", "dataset", str(dataset), "maker/ko-demo", *(["--dry-run"] if dry_run else [])])
    if sentence.startswith("Error"):
        assert not said_before and sentence in capsys.readouterr().err
    else:
        assert said_before == [f"{sentence}\n"]


def test_without_a_token_a_dry_run_says_where_the_files_would_go(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.strange.kr")
    main(["push", "dataset", str(dataset), "maker/ko-demo", "--dry-run"])
    said = "Files, without a token, go to https://hub.strange.kr, which is NOT huggingface.co but what HF_ENDPOINT names.\n"
    assert capsys.readouterr().err == said
