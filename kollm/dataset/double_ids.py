"""Rows of one source that have the same id: the first keeps it, later ones get the place of their row added."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kollm.sources import id_with_place


def settle_ids(ids: Sequence[pa.Array], places: Sequence[pa.Array]) -> tuple[pa.ChunkedArray, int]:
    """Ids of which no two are the same, and how many were changed.

    Args:
        ids: of all rows, in the order in which the first keeps its id.
        places: of each row its place in the source.
    """
    given = pa.chunked_array(ids, pa.string())
    if pc.count_distinct(given).as_py() == len(given):
        return given, 0
    counts = pc.value_counts(given)
    double = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    names, at = given.to_pylist(), pa.chunked_array(places, pa.int64())
    taken, seen, changed = set(names), set[str](), 0
    for row in pc.indices_nonzero(pc.is_in(given, value_set=double)).to_pylist():
        name = names[row]
        if name in seen:
            names[row] = id_with_place(name, at[row].as_py(), taken)
            taken.add(names[row])
            changed += 1
        seen.add(name)
    return pa.chunked_array([names], pa.string()), changed
