from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kollm.core.hashing import ContentIds, canonical_json, content_id, text_sha256


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_canonical_json_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert content_id(value).startswith("sha256:")


@given(st.dictionaries(st.text(max_size=3), st.text() | st.integers(), max_size=3), st.text())
def test_ids_that_differ_in_the_last_text_are_content_ids(value: dict[str, object], text: str) -> None:
    last = max(["", *value]) + "z"
    ids = ContentIds({**value, last: "another"}, last)
    for part in (text, "", '"}', "\ud800"):
        assert ids.of(part) == content_id({**value, last: part})


def test_lone_surrogates_have_ids() -> None:
    assert content_id("\ud800") != content_id("\udbff")
    assert text_sha256("\ud800") != text_sha256("\udbff")
