"""The exact `accelerate launch` line of a recipe, and running it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError, MissingExtraError, StateError
from kollm.core.files import read_json
from kollm.core.lock import folder_lock
from kollm.core.parquet import open_parquet
from kollm.core.processes import run_module
from kollm.core.progress import say
from kollm.dataset.folder import parquet_files, read_records
from kollm.dataset.preferences import preference_files, read_preferences
from kollm.recipe.schema import Recipe
from kollm.services.repository import locate
from kollm.train.check import accelerate_settings, base_location, check_recipe, config_file
from kollm.train.checkpoints import CHECKPOINTS, OUT_OF_MEMORY, check_output


class Machine(NamedTuple):
    """What trains: an accelerate config, by its name if it is shipped or else its file, and processes if not the config's."""

    config: str | Path
    processes: int | None = None


def launch_command(
    recipe: str | Path,
    dataset: str | Path,
    output: Path,
    machine: Machine,
    *,
    base: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[str]:
    """The command that trains: `accelerate launch --config_file ... -m kollm.train ...`, run by this Python.

    Args:
        recipe: name or file.
        dataset: folder or Hub id.
        output: folder for the adapter.
        machine: what trains.
        base: folder of the base model, if not the recipe's.
        overrides: `section.key=value`.

    Raises:
        InputError: no such config.
        MissingExtraError: the extra `train` is not installed.
    """
    config, processes = machine
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_file(config))]
    if processes is not None:
        command += ["--num_processes", str(processes)]
    values = accelerate_settings(config)
    command += _threads(values, processes)
    if values.get("distributed_type") in ("NO", "DEEPSPEED"):  # accelerate knows it for these alone
        command.append("--quiet")  # no traceback of the launcher's under the sentence that tells what is wrong
    command += ["-m", "kollm.train", "--recipe", str(recipe), "--dataset", str(dataset), "-o", str(output)]
    if base is not None:
        command += ["--base", str(base)]
    for override in overrides:
        command += ["--set", override]
    return command


def _threads(values: Mapping[str, Any], processes: int | None) -> list[str]:
    """Threads of each process on the processor: its cores, shared. Left unsaid, accelerate says it, in three lines."""
    if not values.get("use_cpu") or "OMP_NUM_THREADS" in os.environ:
        return []
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError("psutil", "train") from error
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    here = (processes or values.get("num_processes") or 1) // (values.get("num_machines") or 1)
    return ["--num_cpu_threads_per_process", str(max(cores // max(here, 1), 1))]


def check_launch(
    recipe: Recipe,
    dataset: str | Path,
    *,
    config: str | Path,
    base: Path | None = None,
    output: Path | None = None,
) -> None:
    """Refuse what can be refused without torch or a weight: here it is said once, and not by every process.

    Raises:
        InputError: no such config, dataset or base, another's files in the output, or DeepSpeed is wanted and not
            installed.
        RecipeError: settings that exclude each other.
    """
    check_recipe(recipe, config, base)
    if output is not None:
        check_output(output)
    values = accelerate_settings(config)
    if values.get("distributed_type") == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise InputError(
            f"The accelerate config '{config}' needs the package 'deepspeed', which is not installed - install it with: "
            "pip install deepspeed."
        )
    base_location(recipe, base)
    if recipe.method == "sft":
        next(read_records(dataset, split="train"), None)
    else:
        next(read_preferences(dataset, "train"), None)


def training_rows(recipe: Recipe, dataset: str | Path) -> int:
    """How many rows, or pairs, a dataset has to train on, by what its files say of themselves.

    Raises:
        InputError: there is no such dataset, or it has none for the recipe's method.
    """
    if recipe.method == "sft":
        files = parquet_files(locate(dataset, "dataset").folder, None, "train")
    else:
        files = preference_files(dataset, "train")
    return sum(open_parquet(path, path).metadata.num_rows for path in files)


def launch(command: Sequence[str]) -> None:
    """Run the command and wait for it.

    A run that ends for want of device memory is started again from its checkpoint, with half the device batch and the
    same global batch, until it fits or the device batch is one row.

    It ends when this process does. Ctrl-C here ends it, and is passed on as KeyboardInterrupt with what to say of it.

    Raises:
        StateError: another training is at work in the folder, or it failed; what went wrong stands above, printed by the
            command itself.
    """
    command = list(command)
    output = Path(command[command.index("-o") + 1])
    full = output / CHECKPOINTS / OUT_OF_MEMORY
    if output.is_dir():
        with folder_lock(output):  # said here at once; the process that writes holds it from then on
            pass
    while True:
        full.unlink(missing_ok=True)
        try:
            code = run_module("kollm.train.launcher", command[3:], os.environ)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"Stopped.{_resumption(output)}") from stop
        if code == 0:
            return
        batch = read_json(full)["device_batch"] // 2 if full.is_file() else 0
        if batch < 1:
            raise StateError(f"Training ended {_how(code)}.{_resumption(output)}")
        say(f"train: out of memory, going on with trainer.per_device_train_batch_size={batch}")
        command += ["--set", f"trainer.per_device_train_batch_size={batch}"]


def _how(code: int) -> str:
    number = -code if code < 0 else code - 128
    if number in {int(one) for one in signal.Signals}:
        return f"by the signal {signal.Signals(number).name}"
    return f"with exit code {code} - the lines above say why"


def _resumption(output: Path) -> str:
    there = any(output.glob("checkpoints/checkpoint-*/complete.json"))
    return " The same command resumes from its last checkpoint." if there else ""
