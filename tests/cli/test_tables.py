"""Numbers as tables of the command line show them."""

from __future__ import annotations

import pytest

from kollm.cli.tables import signed


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "+0.000"), (-0.0, "+0.000"), (-6e-20, "+0.000"), (5e-8, "+5e-08"), (-0.0004, "-4e-04"), (1.23456, "+1.235")],
)
def test_a_small_difference_shows_and_rounding_does_not(value: float, shown: str) -> None:
    assert signed(value) == shown
