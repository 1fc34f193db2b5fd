"""Room on the ledger's disk for answers that are under way: what was paid for is kept even where the disk is full.

Before anything is sent, a file of some size stands beside the ledger; where an answer finds the disk full, that file gives
its room. Then nothing more is sent until there is room for it again.
"""

from __future__ import annotations

import os
from pathlib import Path

from kollm.core.files import disk_errors

SIZE = 2 << 20
"""Bytes: 64 answers of 30 KiB."""


class Reserve:
    """The file beside a ledger; processes that share the ledger share it.

    Args:
        ledger: the ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        self.path = ledger.with_name(f"{ledger.name}-reserve")

    def fill(self) -> None:
        """Call it before sending.

        Raises:
            StateError: the disk has no room for it.
        """
        if self._size() >= SIZE:
            return
        with disk_errors(self.path):
            handle = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.lseek(handle, self._size(), os.SEEK_SET)
                while (missing := SIZE - self._size()) > 0:
                    os.write(handle, bytes(min(missing, 1 << 20)))
            except BaseException:
                os.ftruncate(handle, 0)
                raise
            finally:
                os.close(handle)

    def give(self) -> bool:
        """Give the room to whoever writes next; whether there was any."""
        if not self._size():
            return False
        os.truncate(self.path, 0)
        return True

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
