"""The governor's arithmetic, on a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from kollm.services.chat.governor import Governor


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("kollm.services.chat.governor.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def headers(what: str, limit: int, remaining: int) -> dict[str, str]:
    return {f"x-ratelimit-limit-{what}": str(limit), f"x-ratelimit-remaining-{what}": str(remaining)}


async def admitted(governor: Governor, tokens: int) -> bool:
    """Whether a request may go now; the clock stands still, so that one that must wait waits for ever."""

    async def enter() -> None:
        async with governor.admit(tokens):
            pass

    task = asyncio.create_task(enter())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0] is None


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_a_used_up_minute_refills_steadily(clock: Clock, what: str) -> None:
    async def run() -> None:
        governor = Governor(8)
        assert await admitted(governor, 10)
        governor.learn(headers(what, 600, 0))
        assert not await admitted(governor, 10)
        clock.now += 0.9  # 9 of 600 a minute have come back
        assert await admitted(governor, 10) is (what == "requests")
        clock.now += 0.2
        assert await admitted(governor, 10)

    asyncio.run(run())


def test_a_request_larger_than_the_limit_goes_when_the_minute_is_full(clock: Clock) -> None:
    async def run() -> None:
        governor = Governor(8)
        governor.learn(headers("tokens", 600, 600))
        assert await admitted(governor, 10_000)
        assert not await admitted(governor, 10)

    asyncio.run(run())


def test_a_wait_holds_everyone_and_halves_what_is_under_way(clock: Clock) -> None:
    async def run() -> None:
        governor = Governor(8)
        governor.pause(5.0)
        governor.pause(3.0)  # another refusal of the same wave
        assert not await admitted(governor, 1)
        clock.now += 5.0
        assert await admitted(governor, 1) and governor._allowed == 4.0
        for _ in range(100):
            governor.learn({})
        assert governor._allowed == 8.0

    asyncio.run(run())


def test_no_more_than_allowed_are_under_way() -> None:
    async def run() -> int:
        governor, inside, most = Governor(3), 0, 0

        async def one() -> None:
            nonlocal inside, most
            async with governor.admit(1):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_headers_that_say_nothing_change_nothing(clock: Clock) -> None:
    async def run() -> None:
        governor = Governor(1)
        governor.learn({"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": ""})
        assert await admitted(governor, 1)

    asyncio.run(run())
