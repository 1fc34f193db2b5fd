"""Whatever JSON stands in a row, it is kept or rejected with a reason; nothing is lost and nothing raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.core.errors import InputError
from kollm.sources import SOURCES
from kollm.sources.source import Place
from tests.sources.test_survey_build import ROWS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "text",
                    "sentence",
                    "from",
                    "value",
                    "question",
                    "answers",
                    "id",
                    "input",
                    "output",
                    "summary_text",
                    "x",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def row_of(name: str) -> dict[str, Any]:
    content = ROWS[name][1]
    while isinstance(content, list):
        content = content[0]
    if "data" in content:
        content = content["data"][0]
    return dict(content)


KEYS = sorted(
    {key for name in ROWS for key in row_of(name)}
    | {
        "summary_entire",
        "summary_section",
        "abstractive",
        "is_impossible",
        "is_correct",
        "definition",
        "inputs",
        "Instances",
    }
)


@pytest.mark.parametrize("name", ROWS)
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    dropped=st.sets(st.sampled_from(KEYS), max_size=2),
)
@settings(max_examples=60)
def test_a_row_is_kept_or_rejected(name: str, changes: dict[str, Any], dropped: set[str]) -> None:
    row = {key: value for key, value in {**row_of(name), **changes}.items() if key not in dropped}
    source = SOURCES[name]
    adapted = source.adapt(row, Place(name, source.licence, source.lang, "sha256:0", 7))
    assert adapted.records or adapted.rejected
    for record in adapted.records:
        texts = [record.instruction, record.output, *(text for turn in record.history for text in turn)]
        assert all(isinstance(text, str) and text.strip() for text in texts)
        json.dumps(record.to_row(), ensure_ascii=False).encode("utf-8")
    assert all(rejected.reason for rejected in adapted.rejected)


@pytest.mark.parametrize("name", ["natural_instructions", "korquad", "ai_hub"])
@given(value=VALUES | st.fixed_dictionaries({}, optional={
    "Title": VALUES, "Definition": VALUES, "Examples": VALUES, "Instances": st.lists(VALUES, max_size=2),
    "data": VALUES, "documents": VALUES, "paragraphs": VALUES,
    }) | st.fixed_dictionaries({"data": st.lists(st.fixed_dictionaries({"paragraphs": st.lists(VALUES | st.fixed_dictionaries({"qas": VALUES}), max_size=2)}), max_size=2)})
)  # fmt: skip
@settings(max_examples=80)
def test_a_file_of_a_sets_own_form_is_read_or_refused(name: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    source = SOURCES[name]
    assert source.read is not None
    try:
        rows = list(source.read(path))
    except InputError as error:
        assert "file.json" in str(error)
        return
    for index, row in enumerate(rows):
        assert isinstance(row, dict)
        adapted = source.adapt(row, Place(name, source.licence, source.lang, "sha256:0", index))
        assert adapted.records or adapted.rejected


def test_a_category_that_no_file_can_hold_is_rejected() -> None:
    source = SOURCES["flan"]
    adapted = source.adapt({**row_of("flan"), "_task_name": "\ud800"}, Place("flan", source.licence, "en", "", 0))
    assert [item.reason for item in adapted.rejected] == ["lone_surrogate"]
