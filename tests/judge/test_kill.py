"""A judging run killed with -9 goes on where it was: nothing answered is asked again, nothing is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Delay

from kollm.core.files import json_line
from kollm.judge.verdicts import read_verdicts
from tests.judge.conftest import REPLY, answers

COUNT, AT_ONCE = 40, 4


@pytest.mark.nightly(
    "tests/services/test_two_processes.py::test_whoever_comes_second_takes_over_from_one_that_was_killed"
)
def test_killed_twice(llmock: LLMock, tmp_path: Path) -> None:
    llmock.reply(REPLY, times=None).add(Delay(0.1, times=None))
    generations, output = tmp_path / "generations.jsonl", tmp_path / "verdicts.jsonl"
    generations.write_text("".join(json_line(row.to_row()) for row in answers(COUNT)), encoding="utf-8")
    command = [sys.executable, "-m", "kollm", "judge", generations, "-o", output, "--concurrency", str(AT_ONCE)]
    environment = {**os.environ, "KOLLM_LEDGER": str(tmp_path / "ledger.sqlite3")}
    for target in (5, 20):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not output.exists() or output.read_bytes().count(b"\n") < target:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    verdicts = read_verdicts(output)
    assert sorted(verdict.id for verdict in verdicts) == sorted(answer.id for answer in answers(COUNT))
    asked = Counter(request.body["messages"][0]["content"] for request in llmock.requests)
    assert len(asked) == COUNT and sum(asked.values()) <= COUNT + 2 * AT_ONCE
