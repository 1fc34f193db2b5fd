"""Comparing across judges: refused unless told, since another judge is another scale.

A judge is another one where another model was asked; where a name that moves, such as an alias, was answered by another
snapshot; and where a sealed set of answers has shown that it drifted (kollm.judge.drift).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kollm.core.errors import InputError
from kollm.judge.scores import Judging, ScoreTable

ADVICE = (
    "judge both anew; bridge the two with a sample that both judged (`kollm verdicts bridge`); or compare all the same: "
    "--across-judges"
)


class Drifted(NamedTuple):
    """A judge that a sealed set found changed, and the systems that it judged after that."""

    judging: Judging
    systems: frozenset[str]
    axes: tuple[str, ...]


def refuse_across(tables: Iterable[ScoreTable], drifted: Sequence[Drifted] = ()) -> None:
    """Refuse tables whose systems were not all judged by the same judge.

    Raises:
        InputError: two systems of a table were answered by different models, or judged before and after a drift.
    """
    for table in tables:
        if (changed := table.changed_judge()) is not None:
            first, second = (", ".join(sorted(table.returned[name] - {""})) for name in changed)
            raise InputError(
                f"'{changed[0]}' was judged by {first} and '{changed[1]}' by {second}, both asked for as {table.judging.model} - "
                f"{ADVICE}."
            )
        for found in drifted:
            before = [system for system in table.systems if system not in found.systems]
            after = [system for system in table.systems if system in found.systems]
            if found.judging == table.judging and before and after:
                raise InputError(
                    f"Between '{before[0]}' and '{after[0]}' the judge {table.judging.model} drifted on {', '.join(found.axes)}, as "
                    f"its sealed set shows - {ADVICE}."
                )


def together(tables: Sequence[ScoreTable]) -> list[ScoreTable]:
    """One table a rubric, each system as the first of its judges scored it; the judges' names joined."""
    by_rubric: dict[tuple[str, str], list[ScoreTable]] = {}
    for table in tables:
        by_rubric.setdefault((table.judging.rubric, table.judging.rubric_sha256), []).append(table)
    return [of_rubric[0] if len(of_rubric) == 1 else _joined(of_rubric) for of_rubric in by_rubric.values()]


def _joined(tables: Sequence[ScoreTable]) -> ScoreTable:
    modes = dict.fromkeys(table.judging.mode for table in tables)
    models = dict.fromkeys(table.judging.model for table in tables)
    joined = ScoreTable(tables[0].judging._replace(mode=" / ".join(modes), model=" / ".join(models)))
    for table in tables:
        joined.clusters |= table.clusters
        joined.categories |= table.categories
        for system in table.systems:
            if system in joined.statuses:
                continue
            joined.statuses[system] = table.statuses[system]
            joined.returned[system] = table.returned.get(system, set())
            for axis, systems in table.scores.items():
                joined.scores.setdefault(axis, {})[system] = systems.get(system, {})
    return joined
