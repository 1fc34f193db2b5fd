from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kollm.cli import COMMANDS, LazyGroup, cli, main
from kollm.core.extras import extras


def run(*args: str, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kollm", *args], capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    assert done.returncode == code, done.stderr
    return done


def loaded_by(statement: str, names: set[str]) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"torch", "datasets", "evaluate", "transformers", "trl", "peft", "openai", "deepl", "pyarrow", "numpy"}


def test_import_kollm_loads_nothing_heavy() -> None:
    assert loaded_by("import kollm", HEAVY) == set()


def test_help_loads_nothing_heavy() -> None:
    statement = "import contextlib, io, kollm.cli as c\nwith contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): c.main(['--help'])\n"
    assert loaded_by(f"exec({statement!r})", HEAVY | {"pydantic"}) == set()


def test_help_shows_every_command() -> None:
    shown = run("--help").stdout
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_line_of_each_command_is_its_own(name: str) -> None:
    command = LazyGroup().get_command(click.Context(cli), name)
    assert command is not None and command.help is not None
    assert (command.name, command.short_help or command.help.splitlines()[0]) == (name, COMMANDS[name][1])


def test_the_version_is_printed() -> None:
    import kollm

    assert run("--version").stdout.strip() == f"kollm, version {kollm.__version__}"


def test_wrong_usage_leaves_with_2_and_a_hint() -> None:
    assert "did you mean 'doctor'" in run("docter", code=2).stderr
    said = run("data", "preview", code=2).stderr
    assert "No such command 'preview' - it is kollm preview, without data." in said
    assert "No such command 'bild'" in run("data", "bild", code=2).stderr
    run("run", code=2)


def test_a_user_error_is_one_sentence_without_traceback() -> None:
    done = run("recipe", "show", "demmo", code=1)
    assert done.stderr.startswith("Error: There is no recipe 'demmo'")
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run("--debug", "recipe", "show", "demmo", code=1).stderr


def test_doctor_names_keys_without_showing_them() -> None:
    done = run("doctor", "--offline", env={"OPENAI_API_KEY": "sk-very-secret", "DEEPL_AUTH_KEY": ""})
    assert "OPENAI_API_KEY is set" in done.stdout
    assert "DEEPL_AUTH_KEY is not set" in done.stdout
    assert "very-secret" not in done.stdout + done.stderr


def test_doctor_tells_the_version_of_every_package_of_an_extra() -> None:
    said = run("doctor", "--offline").stdout
    for extra, packages in extras().items():
        for package in packages:
            assert re.search(rf"^(ok|--)   {extra} .*\b{package} \d", said, re.MULTILINE), package


@pytest.mark.slow
@pytest.mark.nightly("tests/run/test_run.py::test_a_run_makes_every_file_of_the_contract")
def test_the_demo_needs_the_extras_that_doctor_names(tmp_path: Path) -> None:
    """What other extras alone install cannot be imported; starlette, uvicorn and python-multipart come with trackio."""
    assert "pip install 'kollm[judge,train,translate]'" in run("doctor", "--offline").stdout
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('duckdb', 'gradio', 'matplotlib', 'datatrove', 'ray', 'lm_eval')))\n"
        "from kollm.cli import main; main(sys.argv[1:])"
    )
    small = ["--set", "base.toy.pretrain_steps=2", "--set", "trainer.num_train_epochs=1"]
    command = [sys.executable, "-c", code, "run", "demo", "-o", str(tmp_path / "demo"), *small]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "demo" / "report.html").is_file(), done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", shell])
    assert "_KOLLM_COMPLETE" in capsys.readouterr().out


def test_recipe_show_tells_where_values_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: {model: toy:gpt_neox}\nadapter: {r: 4}\norigins: {adapter: 'assumed: small', adapter.r: paper}\n"
    )
    main(["recipe", "show", str(path)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["adapter.r"].endswith(f"paper  ({path}:2)")
    assert lines["adapter.alpha"].endswith("assumed: small")
    assert lines["loss"].endswith("default")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "-o", "x", "--eval", "a", "--eval", "b"],
        ["run", "demo", "--output", "x", "-o", "y"],
        ["data", "build", "dolly", "--limit", "3", "--limit", "4", "-o", "x"],
        ["ledger", "stats", "--ledger", "a", "--ledger=b"],
    ],
)
def test_an_option_of_one_value_is_given_once(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2 and "is given 2 times - give it once" in result.output
