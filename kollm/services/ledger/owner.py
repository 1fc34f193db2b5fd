"""Who holds a lease: a name that tells whether its process still lives, for whoever shares the machine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import socket
import uuid
from pathlib import Path

BATCH = "batch "
"""What the owner of a lease begins with where no process holds it, but a batch at the service."""
_numbers = itertools.count(1)


def new_owner() -> str:
    """A name for one buyer of this process: machine, process, its start, and a number."""
    return f"{_machine()} {os.getpid()} {_started(os.getpid())} {next(_numbers)}"


def new_batch() -> str:
    """A name for a batch at the service, which outlives its process."""
    return f"{BATCH}{uuid.uuid4().hex}"


def is_gone(owner: str) -> bool:
    """Whether the owner's process certainly no longer runs; False where only the lease's end can tell."""
    machine, *rest = owner.rsplit(" ", 3)
    if owner.startswith(BATCH) or machine != _machine() or len(rest) != 3 or not rest[0].isdigit():
        return False
    pid, started = int(rest[0]), rest[1]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _started(pid) != started  # ended and not yet buried, or another process has the number now


@functools.cache
def _machine() -> str:
    """This machine since it was switched on, and the space in which its process numbers mean something."""
    parts = [socket.gethostname().replace(" ", "-")]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _started(pid: int) -> str:
    """When a process began, in the kernel's own count; `ended` for one that has, `-` where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "ended" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return "-"
