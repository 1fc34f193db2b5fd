from __future__ import annotations

from pathlib import Path

import pytest

from kollm.app.rows import Query, RowStore
from kollm.core.errors import InputError
from tests.app.conftest import translated


def test_pages_follow_the_order_of_the_dataset(dataset: Path) -> None:
    rows = RowStore(dataset)
    first, second = rows.page(Query(), 0), rows.page(Query(), 1)
    assert first.total == 300 and len(first.lines) == 20
    assert not {line.id for line in first.lines} & {line.id for line in second.lines}
    assert rows.page(Query(), 99).lines == []


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(text="무리수"), {"dolly-5"}),
        (Query(text="PIP INSTALL"), {"dolly-6"}),
        (Query(text="dolly-42"), {"dolly-42"}),
        (Query(text="' OR 1=1 --"), {"dolly-109", "dolly-150"}),
        (Query(text="sadly", source="dolly"), {"dolly-7"}),
        (Query(text="sadly", source="gpt4_llm"), set()),
        (Query(reason="not_korean", rejected=True), {"dolly-901"}),
        (Query(longest=30, ids=("dolly-1", "dolly-5", "no")), set()),
        (Query(shortest=40, ids=("dolly-1", "dolly-111")), {"dolly-1", "dolly-111"}),
    ],
)
def test_a_query_finds_its_rows(dataset: Path, query: Query, ids: set[str]) -> None:
    found = RowStore(dataset).page(query, 0)
    assert {line.id for line in found.lines} == ids and found.total == len(ids)


def test_counts_and_one_row(dataset: Path) -> None:
    rows = RowStore(dataset)
    assert rows.counts("source") == [("dolly", 200), ("gpt4_llm", 100)]
    assert rows.counts("reason", rejected=True) == [("length_ratio", 1), ("not_korean", 1)]
    assert sum(n for _, n in rows.lengths()) == 300
    kept, left_out = rows.find("dolly-5"), rows.find("dolly-900")
    assert kept is not None and kept.record.original is not None and kept.reason == ""
    assert left_out is not None and left_out == (translated(900), "rejected", "length_ratio: output")
    assert rows.find("nothing") is None


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest"):
        RowStore(tmp_path)
