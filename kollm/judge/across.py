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


class Across(NamedTuple):
    """Two systems of a table that had different judges.

    Attributes:
        judges: the models that answered for the first and for the second; empty where the judge drifted between them.
        axes: those on which it drifted.
    """

    first: str
    second: str
    judges: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()


def find_across(table: ScoreTable, drifted: Sequence[Drifted] = ()) -> Across | None:
    """Two systems that were answered by different models, or judged before and after a drift; None for none."""
    if (changed := table.changed_judge()) is not None:
        return Across(*changed, judges=tuple(", ".join(sorted(table.returned[name] - {""})) for name in changed))
    for found in drifted:
        before = [system for system in table.systems if system not in found.systems]
        after = [system for system in table.systems if system in found.systems]
        if found.judging == table.judging and before and after:
            return Across(before[0], after[0], axes=found.axes)
    return None


def refuse_across(tables: Iterable[ScoreTable], drifted: Sequence[Drifted] = ()) -> None:
    """Refuse tables whose systems were not all judged by the same judge.

    Raises:
        InputError: as `find_across` finds it.
    """
    for table in tables:
        found, model = find_across(table, drifted), table.judging.model
        if found is None:
            continue
        if found.judges:
            raise InputError(
                f"'{found.first}' was judged by {found.judges[0]} and '{found.second}' by {found.judges[1]}, both asked for as "
                f"{model} - {ADVICE}."
            )
        raise InputError(
            f"Between '{found.first}' and '{found.second}' the judge {model} drifted on {', '.join(found.axes)}, as its sealed set "
            f"shows - {ADVICE}."
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
