"""Which fields of a translated record stayed English."""

from __future__ import annotations

from kollm.core.records import Record
from kollm.translate.masking import translatable


def untranslated_fields(record: Record) -> tuple[str, ...]:
    """Names of the fields of a translated record that are identical to the original and hold words.

    Numbers, URLs and code alone are nothing to translate and are not named.
    """
    if not record.translated:
        return ()
    before, after = record.english().texts(), record.texts()
    return tuple(name for name, text in after.items() if text and text == before.get(name) and translatable(text))
