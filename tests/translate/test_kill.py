"""Killed with -9 and run again: the kill script, a few times."""

from __future__ import annotations

import pytest

from benchmarks import kill_ledger


@pytest.mark.slow
def test_kills(capsys: pytest.CaptureFixture[str]) -> None:
    kill_ledger.main(["--kills", "3", "--rows", "1000"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("3 kills in ") and "every guarantee held" in printed
