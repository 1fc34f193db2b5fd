"""The translatable fields of a Record, by name, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kollm.core.records import Original, Record
from kollm.translate.masking import translatable


def record_fields(record: Record | Original) -> dict[str, str]:
    """Name -> text: `history.0.user`, `history.0.assistant`, ..., `instruction`, `input`, `output`; blank ones too."""
    fields = {}
    for number, (user, assistant) in enumerate(record.history):
        fields[f"history.{number}.user"] = user
        fields[f"history.{number}.assistant"] = assistant
    return {**fields, "instruction": record.instruction, "input": record.input, "output": record.output}


def with_fields(record: Record, texts: Mapping[str, str], **changes: Any) -> Record:
    """The record with those fields replaced, the others as they were.

    Args:
        record: any record.
        texts: field name -> new text.
        changes: attributes of the record to change as well.
    """
    history = tuple(
        (texts.get(f"history.{number}.user", user), texts.get(f"history.{number}.assistant", assistant))
        for number, (user, assistant) in enumerate(record.history)
    )
    return replace(
        record,
        instruction=texts.get("instruction", record.instruction),
        input=texts.get("input", record.input),
        output=texts.get("output", record.output),
        history=history,
        **changes,
    )


def original_of(record: Record) -> Original:
    """What `Record.original` keeps of a record that is about to be translated."""
    return record.original or Original(record.instruction, record.input, record.output, record.history)


def untranslated_fields(record: Record) -> tuple[str, ...]:
    """Names of the fields of a translated record that are identical to the original and hold words.

    Numbers, URLs and code alone are nothing to translate and are not named.
    """
    if record.original is None:
        return ()
    before, after = record_fields(record.original), record_fields(record)
    return tuple(name for name, text in after.items() if text and text == before.get(name) and translatable(text))
