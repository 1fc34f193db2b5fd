"""The exact `accelerate launch` line of a recipe, and running it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kollm.errors import InputError, StateError
from kollm.resources import resource_folder


def launch_command(
    recipe: str | Path,
    dataset: str | Path,
    output: Path,
    *,
    config: str | Path,
    processes: int | None = None,
    base: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[str]:
    """The command that trains: `accelerate launch --config_file ... -m kollm.train ...`, run by this Python.

    Args:
        recipe: name or file.
        dataset: folder or Hub id.
        output: folder for the adapter.
        config: name of a shipped accelerate config, or a file.
        processes: number of processes, if not the config's.
        base: folder of the base model, if not the recipe's.
        overrides: `section.key=value`.

    Raises:
        InputError: no such config.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_file(config))]
    if processes is not None:
        command += ["--num_processes", str(processes)]
    command += ["-m", "kollm.train", "--recipe", str(recipe), "--dataset", str(dataset), "-o", str(output)]
    if base is not None:
        command += ["--base", str(base)]
    for override in overrides:
        command += ["--set", override]
    return command


def config_names() -> list[str]:
    """Names of the shipped accelerate configs, sorted."""
    return sorted(path.stem for path in resource_folder("accelerate_configs").glob("*.yaml"))


def config_file(config: str | Path) -> Path:
    """The file of a shipped accelerate config by name, or a file by path.

    Raises:
        InputError: there is none.
    """
    shipped = resource_folder("accelerate_configs") / f"{config}.yaml"
    path = shipped if str(config) in config_names() else Path(config)
    if not path.is_file():
        raise InputError(
            f"There is no accelerate config '{config}' - use {', '.join(config_names())}, or a file's path."
        )
    return path


def launch(command: Sequence[str]) -> None:
    """Run the command and wait for it.

    Raises:
        StateError: it failed; what went wrong stands above, printed by the command itself.
    """
    # Spinning threads starve each other where processes outnumber cores; set before torch starts its threads.
    finished = subprocess.run(command, check=False, env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ})
    if finished.returncode != 0:
        raise StateError(
            f"Training ended with exit code {finished.returncode} - the lines above say why; "
            "the same command resumes from its last checkpoint."
        )
