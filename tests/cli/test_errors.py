"""How a command ends: one line on whatever ends it, and text that any terminal can show."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kollm import cli
from kollm.core.errors import ISSUES, one_line
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table
from tests.train.conftest import row


@click.command()
@click.argument("how")
def broken(how: str) -> None:
    """Fail."""
    if how == "bug":
        raise KeyError("missing\nkey")
    if how == "full":
        raise OSError(28, "No space left on device", "/data/out.jsonl")
    raise MemoryError


def end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    monkeypatch.setitem(cli.COMMANDS, "broken", ("tests.cli.test_errors:broken", "Fail."))
    with pytest.raises(SystemExit) as stop:
        cli.main(["broken", *args])
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_a_bug_is_one_line_that_says_so_and_where_to_report_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = end(monkeypatch, capsys, "bug")
    assert said.count("\n") == 1 and said.startswith("Error: This is a bug in kollm (KeyError")
    assert ISSUES in said and "kollm --debug" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("torch.nn", "torch", "train"),
        ("lm_eval", "lm-eval", "bench"),
        ("multipart", "python-multipart", "app"),
        ("bitsandbytes", "bitsandbytes", "train"),
        ("langid", "langid", "translate"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(module: str, package: str, extra: str) -> None:
    expected = f"The package '{package}' is not installed - install it with: pip install 'kollm[{extra}]'."
    assert one_line(ModuleNotFoundError(f"No module named '{module}'", name=module)) == expected


@pytest.mark.parametrize(
    "command", ["preview demo", "merge a -o b", "chat x/y", "generate gpt-4 --api --dataset d.json"]
)
def test_a_command_without_its_packages(command: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('{"instruction": "a", "output": "b"}\n')
    without = "sys.modules.update(dict.fromkeys(('torch', 'transformers', 'accelerate', 'peft', 'openai')))"
    code = f"import sys; {without}; from kollm.cli import main; main({command.split()})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "install it with: pip install 'kollm[" in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_nobody_is_a_bug() -> None:
    assert one_line(ModuleNotFoundError("No module named 'kolm'", name="kolm")).startswith("This is a bug in kollm")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("full", "Error: '/data/out.jsonl' cannot be used (No space left on device) - make room on that disk"),
        ("memory", "Error: The memory of this machine is full"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    how: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = end(monkeypatch, capsys, how)
    assert said.startswith(expected) and said.count("\n") == 1


def test_debug_shows_the_traceback() -> None:
    script = "import sys; from kollm import cli; cli.COMMANDS['broken'] = ('tests.cli.test_errors:broken', ''); cli.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, "--debug", "broken", "bug"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert "Traceback" in done.stderr and "KeyError" in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp949", "euc-kr", "utf-8"])
def test_show_on_terminals_of_other_encodings(tmp_path: Path, encoding: str) -> None:
    said = on_terminal(encoding, "show", "dolly-1", "-o", str(tmp_path), dataset=tmp_path / "dataset")
    assert "caf" in said and ("😀" in said) == (encoding == "utf-8")


def test_preview_on_a_terminal_of_another_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "dataset")
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding="cp949"))
    cli.main(["preview", "demo", "--dataset", str(tmp_path / "dataset"), "--rows", "1"])
    said = terminal.getvalue().decode("cp949")
    assert "[[" in said and "⟦" not in said


def write_rows(dataset: Path) -> None:
    with DatasetWriter(dataset) as writer:
        writer.write(Part("dolly", "train"), to_table([row(number, output="뷁 café 😀 ∑") for number in range(12)]))
        writer.publish({}, "card")


def on_terminal(encoding: str, *command: str, dataset: Path) -> str:
    write_rows(dataset)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "kollm", *command], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(encoding)
