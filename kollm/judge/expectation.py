"""Expected scores from the log-probabilities that a service reports with its reply."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kollm.judge.parse import score_places
from kollm.judge.rubric import Axis, Rubric

Token = Mapping[str, Any]
"""`token`, `bytes`, `logprob` and `top_logprobs`, as chat completions report them."""


def expected_scores(
    text: str, tokens: Sequence[Token], rubric: Rubric
) -> tuple[dict[str, float | None], dict[str, float]]:
    """Expectation of each axis's score where it stands in the reply.

    Args:
        text: the reply.
        tokens: its tokens with their alternatives.
        rubric: axes with scores of one digit.

    Returns:
        For each axis the expectation over its allowed values, renormalised, or None where the reply has no certain
        score; and the probability mass that fell on the allowed values.
    """
    places = score_places(text, rubric)
    starts = _starts(tokens)
    scores: dict[str, float | None] = {}
    mass: dict[str, float] = {}
    for axis in rubric.axes:
        place = places.get(axis.key)
        token = None if place is None else _token_at(len(text[:place].encode("utf-8", "replace")), starts, tokens)
        found = {} if token is None else _values(axis, token)
        total = math.fsum(found.values())
        mass[axis.key] = float(f"{total:.6g}")
        scores[axis.key] = round(math.fsum(v * p for v, p in found.items()) / total, 6) if total > 0 else None
    return scores, mass


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


def _token_at(place: int, starts: Sequence[int], tokens: Sequence[Token]) -> Token | None:
    for start, token in zip(starts, tokens, strict=True):
        if start <= place < start + len(_bytes(token)):
            return token
    return None


def _values(axis: Axis, token: Token) -> dict[int, float]:
    """Probability of each allowed value among the alternatives, however they are spaced."""
    allowed = {str(value): value for value in axis.values}
    chances: dict[bytes, float] = {}
    for candidate in (token, *(token.get("top_logprobs") or ())):
        chances[_bytes(candidate)] = math.exp(float(candidate["logprob"]))  # the chosen token is listed twice
    values: dict[int, float] = {}
    for written, chance in chances.items():
        value = allowed.get(written.decode("utf-8", "replace").strip())
        if value is not None:
            values[value] = values.get(value, 0.0) + chance
    return values
