"""The translatable fields of a Record, by name, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kollm.records import Original, Record
from kollm.translate.masking import translatable


def record_fields(record: Record | Original) -> dict[str, str]:
    """Name -> text: `history.0.user`, `history.0.assistant`, ..., `instruction`, `input`, `output`; blank ones too."""
    fields = {}
    for number, (user, assistant) in enumerate(record.history):
        fields[f"history.{number}.user"] = user
        fields[f"history.{number}.assistant"] = assistant
    return {**fields, "instruction": record.instruction, "input": record.input, "output": record.output}


def with_fields(record: Record, texts: Mapping[str, str]) -> Record:
    """The record with those fields replaced, the others as they were."""
    fields = {**record_fields(record), **texts}
    return replace(
        record,
        instruction=fields["instruction"],
        input=fields["input"],
        output=fields["output"],
        history=tuple(
            (fields[f"history.{number}.user"], fields[f"history.{number}.assistant"])
            for number in range(len(record.history))
        ),
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
    return tuple(name for name, text in after.items() if text == before.get(name) and translatable(text))
