"""Expected scores from the log-probabilities that a service reports with its reply."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kollm.judge.parse import score_places
from kollm.judge.rubric import Axis, Rubric

Token = Mapping[str, Any]
"""`token`, `bytes`, `logprob` and `top_logprobs`, as chat completions report them."""


class Expected(NamedTuple):
    """What the log-probabilities of a reply say of each axis.

    Attributes:
        scores: the expectation over the allowed values, renormalised; None where the reply has no certain score.
        mass: probability that fell on the allowed values.
        chances: probability of each allowed value, renormalised; none where there is no score.
    """

    scores: dict[str, float | None]
    mass: dict[str, float]
    chances: dict[str, dict[str, float]]


def expected_scores(text: str, tokens: Sequence[Token], rubric: Rubric) -> Expected:
    """Expectation of each axis's score where it stands in the reply.

    A token that may go on to another value, as `1` may to `10` where the model writes digit by digit, counts only where the
    reply shows how it goes on: the mass says what is missing, and an expectation over less than half of it is None.

    Args:
        text: the reply.
        tokens: its tokens with their alternatives.
        rubric: its scored axes are read.
    """
    places = score_places(text, rubric)
    starts = _starts(tokens)
    expected = Expected({}, {}, {})
    for axis in rubric.scored:
        place = places.get(axis.key)
        at = None if place is None else _token_at(len(text[:place].encode("utf-8", "replace")), starts, tokens)
        found, unclear = ({}, 0.0) if at is None else _values(axis, tokens, at)
        total = math.fsum(found.values())
        expected.mass[axis.key] = float(f"{total:.6g}")
        sure = total > 0 and unclear <= total
        expected.scores[axis.key] = round(math.fsum(v * p for v, p in found.items()) / total, 6) if sure else None
        if sure:
            expected.chances[axis.key] = {str(value): float(f"{p / total:.6g}") for value, p in sorted(found.items())}
    return expected


def _starts(tokens: Sequence[Token]) -> list[int]:
    starts, end = [], 0
    for token in tokens:
        starts.append(end)
        end += len(_bytes(token))
    return starts


def _bytes(token: Token) -> bytes:
    # A token may be a part of a character; only its bytes tell how long it is.
    values = token.get("bytes")
    return bytes(values) if values is not None else str(token["token"]).encode("utf-8", "replace")


def _token_at(place: int, starts: Sequence[int], tokens: Sequence[Token]) -> int | None:
    for number, (start, token) in enumerate(zip(starts, tokens, strict=True)):
        if start <= place < start + len(_bytes(token)):
            return number
    return None


def _values(axis: Axis, tokens: Sequence[Token], at: int) -> tuple[dict[int, float], float]:
    """Probability of each allowed value where the score begins, however it is spaced; and of what may be several values."""
    chances = _chances(tokens[at])
    grouped = any(len(text) > 1 and text.isdigit() and int(text) in axis.values for text in chances)
    chosen = _bytes(tokens[at]).decode("utf-8", "replace").strip()
    following = _chances(tokens[at + 1]) if at + 1 < len(tokens) else {}
    values: dict[int, float] = {}
    unclear = 0.0
    for text, chance in chances.items():
        longer = [] if grouped else [str(v) for v in axis.values if str(v) != text and str(v).startswith(text)]
        if not text.isdigit() or not text.isascii():
            continue
        if not longer:
            if text == str(int(text)) and int(text) in axis.values:
                values[int(text)] = values.get(int(text), 0.0) + chance
        elif text != chosen:
            unclear += chance
        else:
            for value, share in _continued(text, longer, following, axis).items():
                values[value] = values.get(value, 0.0) + chance * share
    return values, unclear


def _continued(text: str, longer: Sequence[str], following: Mapping[str, float], axis: Axis) -> dict[int, float]:
    """How a first digit goes on, by the token after it: share of each value."""
    shares = {int(whole): following[rest] for whole in longer if (rest := whole[len(text) :]) in following}
    digits = math.fsum(chance for rest, chance in following.items() if rest[:1].isdigit())
    if int(text) in axis.values:
        shares[int(text)] = shares.get(int(text), 0.0) + max(0.0, 1.0 - digits)
    return shares


def _chances(token: Token) -> dict[str, float]:
    """Probability of each text that the service lists for a place, without the spaces around it."""
    by_bytes: dict[bytes, float] = {}
    for candidate in (token, *(token.get("top_logprobs") or ())):
        by_bytes[_bytes(candidate)] = math.exp(
            min(0.0, float(candidate["logprob"]))
        )  # the chosen token is listed twice
    chances: dict[str, float] = {}
    for written, chance in by_bytes.items():
        text = written.decode("utf-8", "replace").strip()
        chances[text] = chances.get(text, 0.0) + chance
    return chances
