"""Existing parallel rows as a translator."""

from __future__ import annotations

from kollm.core.records import Original, Provenance, Record
from kollm.translate import MemoryTranslator, translate_records


def english(**changes: object) -> Record:
    values = {"id": "dolly-1", "source": "dolly", "instruction": "Say hello.", "input": "", "output": "Hello."}
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def korean(**changes: object) -> Record:
    values = {"instruction": "인사해 주세요.", "output": "안녕하세요.", "lang": "ko"}
    return english(**{**values, **changes})


def test_a_row_in_the_memory() -> None:
    (outcome,) = translate_records([english()], MemoryTranslator({"dolly-1": korean()}))
    assert outcome.reason is None and outcome.route == "translate" and outcome.untranslated == ()
    record = outcome.record
    assert (record.instruction, record.input, record.output, record.lang) == ("인사해 주세요.", "", "안녕하세요.", "ko")
    assert record.original == Original("Say hello.", "", "Hello.")
    assert (record.provenance.engine, record.provenance.route, record.provenance.attempt) == ("memory", "translate", 1)


def test_a_missing_row_and_a_missing_field_are_reasons() -> None:
    memory = MemoryTranslator({"dolly-1": korean(output=" ")})
    absent, partial = translate_records([english(id="dolly-2"), english()], memory)
    assert absent.reason == "memory: no row with this id"
    assert (absent.record.instruction, absent.record.lang) == ("Say hello.", "en")
    assert partial.reason == "memory: the row has no output"
    assert (partial.record.instruction, partial.record.output) == ("인사해 주세요.", "Hello.")


def test_what_is_still_english_is_named() -> None:
    memory = MemoryTranslator({"dolly-1": korean(output="Hello.", input="42")})
    (outcome,) = translate_records([english(input="42")], memory)
    assert outcome.reason is None
    assert outcome.untranslated == ("output",), "a number is nothing to translate"


def test_a_conversation() -> None:
    row = english(history=(("Hi.", "Hi, who is it?"),))
    whole = korean(history=(("안녕.", "안녕, 누구세요?"),))
    (outcome,) = translate_records([row], MemoryTranslator({"dolly-1": whole}))
    assert outcome.record.history == whole.history
    (outcome,) = translate_records([row], MemoryTranslator({"dolly-1": korean()}))
    assert outcome.reason == "memory: the row has no history.0.user"


def test_rows_are_found_by_place_where_a_side_has_no_ids() -> None:
    def at(index: int, part: str = "", **changes: object) -> Record:
        return english(id=f"dolly-own{index}{part}", provenance=Provenance(index=index), **changes)

    memory = MemoryTranslator({"0": korean(), "1-t2": korean(output="그럼요.")}, by_place=True)
    found, part, absent = translate_records([at(0), at(1, "-t2"), at(2)], memory)
    assert (found.record.output, part.record.output) == ("안녕하세요.", "그럼요.")
    assert absent.reason == "memory: no row at this place"
