"""The default filters on the labelled rows: how much of what is wrong they find, and what they leave alone."""

from __future__ import annotations

from tests.quality.labelled.translations import figures


def test_recall_and_precision_on_the_labelled_rows() -> None:
    found = figures()
    good = found.pop("good")
    assert sum(item.rows for item in [good, *found.values()]) >= 400
    wrong = sum(item.rows for item in found.values())
    dropped = sum(item.dropped for item in found.values())
    told = dropped + sum(item.flagged for item in found.values())
    assert dropped / (dropped + good.dropped) >= 0.98
    assert told / wrong >= 0.9
    assert told / (told + good.dropped + good.flagged) >= 0.98
    assert {kind for kind, item in found.items() if item.dropped + item.flagged < 0.8 * item.rows} == set()


def test_only_an_estimate_sees_an_answered_instruction_and_it_drops_nothing() -> None:
    answered = figures()["answered"]
    assert answered.flagged >= 0.8 * answered.rows
    assert answered.dropped <= 1  # its answer holds another number than the question
