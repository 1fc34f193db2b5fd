"""Kill a translation with -9 at random moments and run it again: the ledger's guarantees, counted at the service.

    python -m benchmarks.kill_ledger
    python -m benchmarks.kill_ledger --kills 100 --seed 3

Each round translates rows against a loopback DeepL into a file, is killed again and again, and goes on until it is done.
Checked after every kill: what the ledger holds as answered is never billed again, and all that the service billed is
answered or listed as in flight. Checked after every round: the file is byte for byte that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from benchmarks.translate import make_rows
from kollm.core.files import json_line, read_jsonl
from kollm.services.ledger import Ledger
from kollm.services.ledger.transfer import export_ledger
from kollm.translate import Router, translate_stream
from kollm.translate.deepl import DeepLTranslator
from tests.servers.deepl import KEY, DeepLServer


def child(url: str, rows: int, output: Path) -> None:
    """The run that gets killed: translate into a file, renamed once it is whole."""
    part = output.with_suffix(".part")
    with Ledger.open(output.with_suffix(".sqlite3")) as ledger, part.open("w", encoding="utf-8") as file:
        engine = DeepLTranslator(KEY, url, requests_per_second=200.0)
        for outcome in translate_stream(make_rows(rows), engine, ledger=ledger, router=Router()):
            file.write(json_line({"row": outcome.record.to_row(), "reason": outcome.reason}))
    part.replace(output)


def spoil(answers: list[str]) -> list[str]:
    """Break one answer in ten, always the same ones, so that second attempts are killed too."""
    return [text.replace("<x ", "<y ", 1) if zlib.crc32(text.encode()) % 10 == 0 else text for text in answers]


class Round:
    """One output: its server, its ledger, and what was found wrong."""

    def __init__(self, server: DeepLServer, rows: int, output: Path) -> None:
        self._server, self._output = server, output
        self._command = [sys.executable, "-m", "benchmarks.kill_ledger", "--child", server.url, str(rows), str(output)]
        self.kills, self.answered, self.lost = 0, 0, 0
        self._paid: dict[str, int] = {}

    def run(self, seconds: float | None) -> bool:
        """Start the run, and kill it after some seconds, if given; True if it ended by itself."""
        process = subprocess.Popen(self._command)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            self.kills += 1
            time.sleep(0.1)  # a request under way may still be billed
            return False
        if code:
            sys.exit(f"the run ended with exit code {code}")
        return True

    def check(self) -> None:
        """Compare the ledger with the server: what was answered at the last check has not been billed since."""
        path = self._output.with_suffix(".sqlite3")
        if not path.exists():
            return
        state = self._server.state
        with Ledger.open(path) as ledger:
            (totals,) = ledger.stats() or [None]
            export = path.with_suffix(".ledger.jsonl")
            export.unlink(missing_ok=True)  # that of the last check; an export never overwrites
            export_ledger(ledger, export)
        if totals is None:
            assert state.used == 0, f"{state.used} characters were billed, and the ledger is empty"
            return
        self.answered, self.lost = totals.answered, totals.in_flight
        assert totals.characters <= state.used <= totals.characters + totals.lost.characters, (
            f"the service billed {state.used:,} characters; the ledger says {totals.characters:,} answered and at most "
            f"{totals.lost.characters:,} in flight"
        )
        billed = dict(state.billed_texts)
        again = [text for text, count in self._paid.items() if billed[text] > count]
        assert not again, f"{len(again)} answered texts were billed again, e.g. {again[0]!r}"
        entries = list(read_jsonl(export))
        self._paid = {row["request"]["text"]: billed[row["request"]["text"]] for row in entries if row["content"]}
        twice = sum(count - 1 for count in state.billed_texts.values())
        assert twice <= totals.in_flight, (
            f"{twice} texts were billed again, {totals.in_flight} sends are listed as lost"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=3, metavar=("URL", "ROWS", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        url, rows, output = options.child
        return child(url, int(rows), Path(output))
    draw, kills, rounds, resent = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        with DeepLServer(latency=0.02, spoil=spoil) as server:
            undisturbed = Path(folder) / "undisturbed.jsonl"
            calm = Round(server, options.rows, undisturbed)
            started = time.monotonic()
            calm.run(None)
            seconds = time.monotonic() - started
            used, texts = server.state.used, sum(server.state.billed_texts.values())
        print(f"undisturbed: {options.rows:,} rows in {seconds:.1f} s, {texts:,} texts, {used:,} characters")
        while kills < options.kills:
            rounds += 1
            with DeepLServer(port=int(server.url.rsplit(":", 1)[1]), latency=0.02, spoil=spoil) as again:
                disturbed = Round(again, options.rows, Path(folder) / f"round-{rounds}.jsonl")
                while not disturbed.run(
                    draw.uniform(0.0, seconds) if kills + disturbed.kills < options.kills else None
                ):
                    disturbed.check()
                disturbed.check()
                same = disturbed._output.read_bytes() == undisturbed.read_bytes()
                twice = sum(count - 1 for count in again.state.billed_texts.values())
            kills += disturbed.kills
            resent += twice
            print(
                f"round {rounds}: killed {disturbed.kills}x; output the same byte for byte: {same}; {disturbed.answered:,} texts "
                f"answered; {twice} texts billed twice of {disturbed.lost} listed as in flight at a kill"
            )
            assert same
    print(
        f"{kills} kills in {rounds} rounds: every guarantee held; {resent} texts billed again, all of them in flight at a kill"
    )


if __name__ == "__main__":
    main()
