"""English records to Korean ones: masking, routing, engines, and the way of a row through them."""

from kollm.recipe.engines import ENGINES
from kollm.services.budget import Budget, Spending
from kollm.translate.engines import make_translator
from kollm.translate.memory import MemoryTranslator
from kollm.translate.routing import Decision, Router
from kollm.translate.rows import MODES, Outcome, translate_records, translate_stream
from kollm.translate.translator import Limits, Segment, Translation, Translator

__all__ = [
    "ENGINES",
    "MODES",
    "Budget",
    "Decision",
    "Limits",
    "MemoryTranslator",
    "Outcome",
    "Router",
    "Segment",
    "Spending",
    "Translation",
    "Translator",
    "make_translator",
    "translate_records",
    "translate_stream",
]
