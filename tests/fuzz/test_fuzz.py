"""Whatever stands in a file: a sentence or a result, never a traceback, never a bug, never a hang.

pytest tests/fuzz --fuzz-count 100 --fuzz-seeds 1,2,3 -s
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kollm.cli import main
from tests.fuzz.targets import Target, make_world, targets, write_rubric

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(0)]
LONGEST = 30
"""Seconds of processor time after which a command hangs; the slowest sound one here takes three."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    said: str


class HangError(BaseException):
    """It took too long."""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    write_rubric(folder)
    return folder


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "DEEPL_AUTH_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "nothing")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))


def run(arguments: list[str]) -> Ended:
    """Run a command in this process, as `kollm` does."""
    out = io.StringIO()
    signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except HangError:
        code, out = -1, io.StringIO("HANG\n" + traceback.format_exc())
    except BaseException:
        code, out = -1, io.StringIO("TRACEBACK\n" + traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return Ended(code, out.getvalue())


def _hang(*_: object) -> None:
    raise HangError


def faults(world: Path, target: Target, chance: random.Random, count: int, keep: Path) -> Iterator[tuple[str, bytes]]:
    """What commands say that they should not, and the input that made them."""
    place = world / target.file
    sound = place.read_bytes() if place.is_file() else None
    new = world / "new"
    try:
        for _ in range(count):
            data = target.spoiled(chance)
            place.write_bytes(data)
            command = [part.replace("WORLD", str(world)).replace("NEW", str(new / "out")) for part in target.command]
            new.mkdir()
            ended = run(command)
            shutil.rmtree(new)
            sentences = [line for line in ended.said.splitlines() if line.startswith("Error: ")]
            if ended.code not in (0, 1, 2) or "This is a bug" in ended.said or "Traceback" in ended.said:
                yield ended.said, data
            elif ended.code == 1 and not sentences and "hold one of" not in ended.said:
                yield f"no sentence: {ended.said}", data
    finally:
        if sound is None:
            place.unlink(missing_ok=True)
        else:
            place.write_bytes(sound)
        shutil.rmtree(new, ignore_errors=True)


@pytest.mark.slow
def test_every_command_ends_well_whatever_it_reads(world: Path, fuzz_seed: str, request: pytest.FixtureRequest) -> None:
    os.environ["KOLLM_DEBUG"] = ""
    count, keep = request.config.getoption("--fuzz-count"), request.config.getoption("--fuzz-keep")
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    tried = 0
    only = request.config.getoption("--fuzz-only")
    for name, target in targets(world).items():
        if not name.startswith(only):
            continue
        chance = random.Random(f"{fuzz_seed} {name}")
        share = max(count // 8, 1) if target.heavy else count
        tried += share
        for said, data in faults(world, target, chance, share, Path(keep)):
            kind = f"{name}: {said.strip().splitlines()[-1][:220]}"
            found[kind] += 1
            examples.setdefault(kind, said[-1500:])
            if keep:
                Path(keep).mkdir(parents=True, exist_ok=True)
                (Path(keep) / f"{name.replace(' ', '-')}-{len(found)}").write_bytes(data)
    print(f"\nseed {fuzz_seed}: {tried} inputs, {sum(found.values())} faults of {len(found)} kinds")
    for kind, times in found.most_common():
        print(f"  {times} x {kind}")
    assert not found, "\n\n".join(examples.values())
