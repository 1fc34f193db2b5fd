from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kollm.core.hashing import canonical_json, content_id, text_sha256


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_canonical_json_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert content_id(value).startswith("sha256:")


def test_lone_surrogates_have_ids() -> None:
    assert content_id("\ud800") != content_id("\udbff")
    assert text_sha256("\ud800") != text_sha256("\udbff")
