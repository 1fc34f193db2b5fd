from __future__ import annotations

import subprocess
import sys

import pytest

from kollm.core.errors import InputError
from kollm.dataset.executors.settings import make_executor, parse_pairs, read_settings


def test_the_command_line_stands_over_the_file(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("executor: slurm\nworkers: 8\nslurm: {partition: cpu, time: 02:00:00}\n")
    settings = read_settings(path, None, 64, {"partition": "long"})
    assert (settings.executor, settings.workers) == ("slurm", 64)
    assert (settings.slurm.partition, settings.slurm.time) == ("long", "02:00:00")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("worker: 3\n", "unknown key 'worker' - did you mean 'workers'?"),
        ("executor: dask\n", "'executor' is 'dask', and input should be 'local', 'slurm' or 'ray'"),
        ("executor: slurm\nslurm: {memory: 3}\n", "unknown key 'slurm.memory'"),
        ("workers: -1\n", "'workers' is -1"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, content, told):
    path = tmp_path / "cluster.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_settings(path, None, None, {})
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_pairs():
    assert parse_pairs("partition=cpu,time=02:00:00") == {"partition": "cpu", "time": "02:00:00"}
    with pytest.raises(InputError, match="'cpu' is no KEY=VALUE"):
        parse_pairs("cpu")


def test_settings_of_slurm_for_another_executor():
    with pytest.raises(
        InputError, match="settings for slurm, and the executor is 'local' - name it with --executor slurm"
    ):
        read_settings(None, None, None, {"partition": "cpu"})


def test_no_executor_is_made_where_the_build_chooses():
    assert make_executor(read_settings(None, None, None, {})) is None


def test_slurm_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no 'sbatch' on this machine"):
        make_executor(read_settings(None, "slurm", None, {}))


@pytest.mark.parametrize(("executor", "package", "extra"), [("slurm", "datatrove", "scale"), ("ray", "ray", "ray")])
def test_an_executor_that_is_not_installed(executor, package, extra):
    program = f"""
import sys
sys.modules[{package!r}] = None
from kollm.core.errors import MissingExtraError
from kollm.dataset.executors.settings import make_executor, read_settings
try:
    make_executor(read_settings(None, {executor!r}, None, {{}}))
except MissingExtraError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == f"The package '{package}' is not installed - install it with: pip install 'kollm[{extra}]'.\n"


def test_a_local_build_loads_no_engine():
    program = """
import sys
import kollm.dataset.pipeline, kollm.dataset.executors.settings
print(sorted({"datatrove", "ray", "loguru"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
