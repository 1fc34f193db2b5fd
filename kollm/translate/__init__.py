"""English records to Korean ones: masking, routing, engines, and the way of a row through them."""

from kollm.translate.memory import MemoryTranslator
from kollm.translate.rows import Mode, Outcome, translate_records, translate_stream
from kollm.translate.translator import Segment, Translation, Translator

__all__ = [
    "MemoryTranslator",
    "Mode",
    "Outcome",
    "Segment",
    "Translation",
    "Translator",
    "translate_records",
    "translate_stream",
]
