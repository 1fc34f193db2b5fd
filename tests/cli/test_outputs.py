"""Every command that has `-o` leaves alone what another process writes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kollm.cli import cli, main
from kollm.core import lock
from tests.core.test_lock import Holder

READS = ("kollm show",)
"""Commands whose `-o` names what they read."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def output_of(command: click.Command) -> click.Parameter | None:
    return next((item for item in command.params if {"-o", "--output"} & set(item.opts)), None)


WRITERS = {
    " ".join(path): command
    for path, command in commands(cli)
    if output_of(command) is not None and f"kollm {' '.join(path)}" not in READS
}


def arguments(command: click.Command) -> Iterator[str]:
    """What the command line needs to be read at all."""
    for item in command.params:
        given = item.type.choices[0] if isinstance(item.type, click.Choice) else "1"
        if isinstance(item, click.Argument) and item.required:
            yield str(given)
        elif item.required and item is not output_of(command):
            yield from (item.opts[0], str(given))


def test_the_commands_that_write_are_known() -> None:
    assert {"run", "data build", "judge", "generate", "merge", "train", "report", "verdicts import"} <= set(WRITERS)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("outputs") / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    holders = [Holder("folder_lock", folder)]
    yield folder
    for holder in holders:
        holder.kill()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("inside", ["", "part.html"])
def test_what_another_process_writes_is_left_alone(
    name: str, inside: str, held: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    monkeypatch.chdir(held.parent)
    command = WRITERS[name]
    given = ["demo"] if name == "run" else list(arguments(command))
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), *given, "-o", str(held / inside)])
    said = capsys.readouterr().err
    assert stop.value.code == 1
    assert said.splitlines()[-1].startswith("Error: Another kollm process (kollm train, process "), said
    assert f"is at work in '{held}'" in said and "Traceback" not in said
    assert {path.name for path in held.iterdir()} == {"mine.txt", lock.NAME}


def test_a_dry_run_waits_for_nobody(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "build", "gpt4_llm", "--input", "sample", "--memory", "sample", "--dry-run", "-o", str(held / "d")])
    assert "Cost in all" in capsys.readouterr().out


BUILD = ("data", "build", "gpt4_llm", "--input", "sample", "--memory", "sample")


def test_a_dry_run_of_a_build_looks_at_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "deep" / "dataset"
    main([*BUILD, "--dry-run", "-o", str(output)])
    assert f"The dataset would be made in '{output}'." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    main([*BUILD, "-o", str(output)])
    main([*BUILD, "--dry-run", "-o", str(output)])
    assert f"The dataset in '{output}' would be replaced." in capsys.readouterr().out
    (output / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main([*BUILD, "--dry-run", "-o", str(output)])
    assert "holds what kollm did not write, or what was changed since (mine.txt)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*BUILD, "--dry-run", "-o", str(output / "mine.txt" / "x")])
    assert "cannot be written" in capsys.readouterr().err
