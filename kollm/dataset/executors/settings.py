"""Which executor runs a build, how many workers it has, and what a cluster is told; none of it changes the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from kollm.core.errors import InputError
from kollm.core.files import read_yaml
from kollm.core.reading import as_object, validated
from kollm.dataset.executors import Executor
from kollm.dataset.executors.local import LocalExecutor

WORKERS = 8
"""Jobs of a Slurm cluster at once, where nothing is said."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SlurmSettings(_Settings):
    """What Slurm is told; what is left out, it decides.

    Attributes:
        partition: where the jobs run.
        account: who pays.
        qos: quality of service.
        time: limit of a job, e.g. 02:00:00.
        cpus_per_task: cores of a job.
        mem_per_cpu_gb: memory of a core in GB.
        env_command: shell line that makes kollm's environment; without it, the folder of this Python comes first in PATH.
        sbatch_args: further options of sbatch.
        srun_args: further options of srun.
        max_array_size: the cluster's MaxArraySize.
        poll_seconds: between two questions to Slurm.
        patience_hours: how long no job may run and no task end before the jobs are cancelled.
        visible_seconds: how long the files of an ended job may take to be seen here.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    cpus_per_task: int = Field(1, ge=1)
    mem_per_cpu_gb: int = Field(4, ge=1)
    env_command: str | None = None
    sbatch_args: dict[str, str] = Field(default_factory=dict)
    srun_args: dict[str, str] = Field(default_factory=dict)
    max_array_size: int = Field(1001, ge=1)
    poll_seconds: float = Field(5, gt=0)
    patience_hours: float = Field(48, gt=0)
    visible_seconds: float = Field(30, ge=0)

    @field_validator("time", mode="before")
    @classmethod
    def _as_clock(cls, value: object) -> object:
        """YAML reads an unquoted 02:00:00 as a number of base 60."""
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value // 3600:02}:{value // 60 % 60:02}:{value % 60:02}"
        return value


class RaySettings(_Settings):
    """What Ray is told.

    Attributes:
        address: the cluster; without it that of RAY_ADDRESS, or else Ray is started on this machine.
        cpus_per_task: cores of a worker.
        mem_per_cpu_gb: memory of a core in GB that Ray reserves.
    """

    address: str | None = None
    cpus_per_task: int = Field(1, ge=1)
    mem_per_cpu_gb: float = Field(1, gt=0)


class ExecutorSettings(_Settings):
    """Who runs a build.

    Attributes:
        executor: `local`, `slurm` or `ray`.
        workers: tasks at once; None to choose.
        slurm: for the executor `slurm`.
        ray: for the executor `ray`.
    """

    executor: Literal["local", "slurm", "ray"] = "local"
    workers: int | None = Field(None, ge=0)
    slurm: SlurmSettings = SlurmSettings()
    ray: RaySettings = RaySettings()


def read_settings(
    path: Path | None, executor: str | None, workers: int | None, slurm: Mapping[str, str]
) -> ExecutorSettings:
    """Settings of a file, with those of the command line in place of its own.

    Args:
        path: a YAML file with the keys of ExecutorSettings; None for the defaults.
        executor: in place of the file's, where it is not None.
        workers: likewise.
        slurm: single settings of Slurm.

    Raises:
        InputError: an unknown key, a value that does not fit, or settings for another executor than the chosen one.
    """
    values = as_object(read_yaml(path), path) if path is not None else {}
    given = {"executor": executor, "workers": workers}
    values = values | {name: value for name, value in given.items() if value is not None}
    if slurm:
        values["slurm"] = {**(values.get("slurm") or {}), **slurm}
    what_to_do = "see the page on clusters for the keys"
    settings = validated(ExecutorSettings, values, path or "The settings of the executor", what_to_do)
    for name in ("slurm", "ray"):
        if values.get(name) and settings.executor != name and (path is None or (name == "slurm" and slurm)):
            raise InputError(
                f"There are settings for {name}, and the executor is '{settings.executor}' - name it with --executor {name}."
            )
    return settings


def parse_pairs(text: str) -> dict[str, str]:
    """`partition=cpu,time=02:00:00` as keys and values.

    Raises:
        InputError: a part without `=`.
    """
    pairs = {}
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator:
            raise InputError(f"'{part}' is no KEY=VALUE - write e.g. partition=cpu,time=02:00:00.")
        pairs[key.strip()] = value.strip()
    return pairs


def make_executor(settings: ExecutorSettings) -> Executor | None:
    """The executor; None for processes of this machine whose number the build chooses.

    Raises:
        MissingExtraError: the executor's package is not installed.
        InputError: the cluster's commands are not on this machine.
    """
    if settings.executor == "slurm":
        from kollm.dataset.executors.slurm import SlurmExecutor

        return SlurmExecutor(settings.workers or WORKERS, settings.slurm)
    if settings.executor == "ray":
        from kollm.dataset.executors.ray import RayExecutor

        return RayExecutor(settings.workers, settings.ray)
    return LocalExecutor(settings.workers) if settings.workers is not None else None
