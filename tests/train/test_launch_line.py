"""The line that trains, word by word, and how it is started again where the device runs full."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, StateError
from kollm.core.resources import resource_folder
from kollm.dataset.folder import read_records
from kollm.train.check import config_names
from kollm.train.launch import Machine, launch, launch_command

CONFIGS = resource_folder("accelerate_configs")


def test_the_line_is_exactly_this() -> None:
    command = launch_command(
        "kullm-polyglot-5.8b",
        "ORG/ko-dolly@main",
        Path("out"),
        Machine("ddp_4gpu", 2),
        base=Path("base"),
        overrides=["trainer.learning_rate=1e-4", "loss=all"],
    )
    assert command == [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(CONFIGS / "ddp_4gpu.yaml"), "--num_processes", "2"),
        *("-m", "kollm.train", "--recipe", "kullm-polyglot-5.8b", "--dataset", "ORG/ko-dolly@main", "-o", "out"),
        *("--base", "base", "--set", "trainer.learning_rate=1e-4", "--set", "loss=all"),
    ]


def test_what_is_not_asked_for_is_not_on_the_line() -> None:
    command = launch_command("demo", "data", Path("out"), Machine(CONFIGS / "single_gpu.yaml"))
    assert command[3:] == [
        *("--config_file", str(CONFIGS / "single_gpu.yaml"), "--quiet"),
        *("-m", "kollm.train", "--recipe", "demo", "--dataset", "data", "-o", "out"),
    ]


@pytest.mark.parametrize(
    ("config", "processes", "cores", "threads"),
    [("cpu", None, 8, "8"), ("cpu_2proc", None, 8, "4"), ("cpu", 3, 8, "2"), ("cpu_2proc", None, 1, "1")],
)
def test_processes_on_the_processor_share_its_cores(
    config: str, processes: int | None, cores: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: cores)
    line = launch_command("demo", "data", Path("out"), Machine(config, processes))
    assert line[line.index("--num_cpu_threads_per_process") + 1] == threads


def test_accelerate_has_nothing_to_say_about_the_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    for name in config_names():
        line = launch_command("demo", "data", Path("out"), Machine(name))
        if name.startswith(("cpu", "single")):  # the others look for their GPUs
            _validate_launch_command(launch_command_parser().parse_args(line[3:]))
    assert caplog.messages == []


def test_the_users_own_number_of_threads_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "--num_cpu_threads_per_process" not in launch_command("demo", "data", Path("out"), Machine("cpu"))


def test_an_unknown_config_names_those_that_exist() -> None:
    with pytest.raises(
        InputError, match=r"no accelerate config 'ddp_3gpu' - use cpu, cpu_2proc, ddp_4gpu, .*zero3_4gpu"
    ):
        launch_command("demo", "data", Path("out"), Machine("ddp_3gpu"))


@pytest.mark.parametrize("config", ["cpu", "cpu_2proc"])
def test_bad_input_is_one_sentence_before_anything_is_started(
    config: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kollm.train.launch.run_module", None)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    nothing = tmp_path / "nothing"
    for rows, base, sentence in (
        (tmp_path, tmp_path, f"The rows of '{tmp_path}' hold no values - name "),
        (nothing, tmp_path, f"There is no file or folder '{nothing}'"),
        (dataset, nothing, f"The folder '{nothing}' holds no model"),
    ):
        arguments = ["train", "demo", "--dataset", str(rows), "--base", str(base), "-o", str(tmp_path / "out")]
        done = CliRunner().invoke(cli, [*arguments, "--config", config])
        assert isinstance(done.exception, InputError)
        assert str(done.exception).startswith(sentence)
        assert done.output == ""


def test_a_dry_run_prints_the_line_that_the_run_runs(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my.jsonl"
    file.write_text(
        '{"question": "수도는?", "answer": "서울"}\n{"question": "색은?", "answer": "파랑"}\n', encoding="utf-8"
    )
    started: list[list[str]] = []
    monkeypatch.setattr("kollm.train.launch.launch", started.append)
    arguments = ["train", "demo", "--dataset", str(file), "--base", str(base), "-o", str(tmp_path / "out")]
    arguments += ["--set", "trainer.max_length=512"]  # the base's context
    dry = CliRunner().invoke(cli, [*arguments, "--dry-run"])
    assert (dry.exit_code, started) == (0, []), dry.output
    assert "2 rows to train on" in dry.stderr
    wet = CliRunner().invoke(cli, arguments)
    assert wet.exit_code == 0, wet.output
    assert shlex.split(dry.stdout)[2:] == started[0][3:]
    folder = started[0][started[0].index("--dataset") + 1]
    assert [row.output for row in read_records(folder, split="train")] == ["서울", "파랑"]


def test_a_dry_run_says_what_tells_memory_and_hours(dataset: Path, tmp_path: Path) -> None:
    arguments = ["train", "kullm-polyglot-5.8b", "--dataset", str(dataset), "-o", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(cli, [*arguments, "--set", "adapter.r=4"])
    line = (
        f"{dataset}: 60 rows to train on; memory and hours: kollm plan kullm-polyglot-5.8b --rows 60 --set adapter.r=4"
    )
    assert line in done.stderr.splitlines()
    assert CliRunner().invoke(cli, shlex.split(line.partition("kollm ")[2])).exit_code == 0


def test_a_dry_run_may_go_before_its_dataset_but_not_before_its_file(tmp_path: Path) -> None:
    arguments = ["train", "kullm-polyglot-5.8b", "-o", str(tmp_path / "out"), "--dry-run", "--dataset"]
    folder, file = str(tmp_path / "ko-dolly"), str(tmp_path / "rows.jsonl")
    done = CliRunner().invoke(cli, [*arguments, folder])
    assert done.exit_code == 0, done.output
    assert f"The line below takes '{folder}' for a dataset that is there when it runs." in done.stderr
    assert f"--dataset {folder} -o" in done.stdout
    assert isinstance(CliRunner().invoke(cli, [*arguments, file]).exception, InputError)
    done = CliRunner().invoke(cli, [*arguments[:1], "demo", *arguments[2:], str(tmp_path)])  # nothing to train on
    assert isinstance(done.exception, InputError)


@pytest.mark.parametrize("config", ["zero2_4gpu", "zero3_4gpu"])
def test_deepspeed_that_is_not_installed_is_said_before_the_launch(
    config: str, dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kollm.train.launch.find_spec", lambda name: None)
    started: list[list[str]] = []
    monkeypatch.setattr("kollm.train.launch.launch", started.append)
    arguments = ["train", "demo", "--dataset", str(dataset), "--base", str(base), "-o", str(tmp_path / "out")]
    arguments += ["--set", "trainer.max_length=512"]  # the base's context
    done = CliRunner().invoke(cli, [*arguments, "--config", config])
    assert str(done.exception) == (
        f"The accelerate config '{config}' needs the package 'deepspeed', which is not installed - install it with: "
        "pip install deepspeed."
    )
    assert (done.output, started) == ("", [])
    monkeypatch.setattr("kollm.train.launch.find_spec", lambda name: name)
    assert CliRunner().invoke(cli, [*arguments, "--config", config]).exit_code == 0
    assert len(started) == 1


def test_the_checks_before_the_launch_import_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from kollm.cli import main
try:
    main(["train", "demo", "--dataset", ".", "--base", ".", "-o", "out", "--config", "cpu"])
finally:
    assert "kollm.train.launch" in sys.modules and "torch" not in sys.modules
"""
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.stderr.splitlines() == [
        "Error: The rows of '.' hold no values - name a file or folder of rows, or a dataset that kollm made."
    ]


@pytest.mark.parametrize("name", config_names())
def test_accelerates_own_launcher_reads_the_line(name: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    options = launch_command_parser().parse_args(launch_command("demo", "data", Path("out"), Machine(name))[3:])
    assert (options.module, options.training_script) == (True, "kollm.train")
    assert options.training_script_args == ["--recipe", "demo", "--dataset", "data", "-o", "out"]


STAND_IN = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
batch = int(sys.argv[-1].rpartition("=")[2]) if "--set" in sys.argv else 8
with (folder / "batches").open("a") as file:
    file.write(f"{batch} ")
if batch > FITS:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "out_of_memory.json").write_text(json.dumps({"device_batch": batch}))
    sys.exit(1)
sys.exit(CODE)
"""
"""Stands in for a training whose device has room for FITS rows, and which then ends with CODE."""


@pytest.mark.parametrize(
    ("fits", "code", "batches"), [(8, 0, "8"), (2, 0, "8 4 2"), (0, 0, "8 4 2 1"), (2, 3, "8 4 2"), (8, 1, "8")]
)
def test_a_full_device_halves_the_batch_until_it_fits(
    fits: int, code: int, batches: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN.replace("FITS", str(fits)).replace("CODE", str(code)))

    def run_script(_module: str, arguments: Sequence[str], _environment: object) -> int:
        return subprocess.run([sys.executable, str(stand_in), *arguments], check=False).returncode

    monkeypatch.setattr("kollm.train.launch.run_module", run_script)
    command = [sys.executable, "-m", "accelerate.commands.launch", "-o", str(tmp_path)]
    if fits == 0 or code:
        with pytest.raises(StateError, match=r"Training ended with exit code [13] - the lines above say why\."):
            launch(command)
    else:
        launch(command)
    assert (tmp_path / "batches").read_text().split() == batches.split()
