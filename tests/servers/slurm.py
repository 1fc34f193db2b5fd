"""A Slurm of one node on 127.0.0.1: Debian's munged, slurmctld and slurmd in a temporary folder."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from tests.servers.loopback import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

_CONF = """
ClusterName=kollmtest
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
MinJobAge=2
KillWait=2
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=brief Nodes=ALL MaxTime=1 State=UP
"""


def missing_programs() -> list[str]:
    """The programs that a Slurm needs and that are not installed."""
    return [name for name in PROGRAMS if _find(name) is None]


class Slurm:
    """Starts the three daemons; use as a context manager.

    Args:
        folder: for its files; short, since a socket stands in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.hidden = folder / "hidden"
        """A folder that the node does not see; where that cannot be arranged, `hides` is false."""
        self.hides = False

    def __enter__(self) -> Slurm:
        for name in ("state", "spool", "hidden"):
            (self._folder / name).mkdir(parents=True)
        conf = _CONF.format(folder=self._folder, user=getpass.getuser(), controller=free_port(), node=free_port())
        (self._folder / "slurm.conf").write_text(conf)
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        places = {
            "key-file": "munge.key",
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        self._start(
            "munged", "--foreground", "--force", *(f"--{name}={self._folder / file}" for name, file in places.items())
        )
        _wait_for(lambda: (self._folder / "munge.socket").exists(), self)
        self._start("slurmctld", "-D")
        self.hides = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
        if self.hides:
            script = f'mount -t tmpfs none "{self.hidden}" && exec {_find("slurmd")} -D -N localhost'
            self._start("unshare", "-m", "sh", "-c", script)
        else:
            self._start("slurmd", "-D", "-N", "localhost")
        try:
            _wait_for(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.ask("scancel", "--signal=KILL", "--full", "-u", getpass.getuser())
        self.ask("scancel", "-u", getpass.getuser())
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> str:
        """What a command of Slurm answers."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    def logs(self) -> str:
        """The end of the daemons' logs, for a test that fails."""
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self._folder.glob("*.log")))

    def _start(self, program: str, *arguments: str) -> None:
        command = [_find(program) or program, *arguments]
        log = (self._folder / f"{program}.out.log").open("wb")
        with log:
            self._daemons.append(
                subprocess.Popen(command, env={**os.environ, **self.environment}, stdout=log, stderr=log)
            )


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def _wait_for(what, slurm: Slurm) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, slurm.logs()
        time.sleep(0.1)
