"""All sources by name; a new one is a line here and a file beside this one."""

from __future__ import annotations

from kollm.core.errors import InputError
from kollm.sources.alpaca import ALPACA, GPT4_LLM, KULLM_V2
from kollm.sources.annotated import AI_HUB, KISTI, KORQUAD
from kollm.sources.dolly import DOLLY
from kollm.sources.instruct_wild import INSTRUCT_WILD
from kollm.sources.koalpaca import KOALPACA_V1, KOALPACA_V1_1
from kollm.sources.natural_instructions import NATURAL_INSTRUCTIONS, SUPER_NATURAL_INSTRUCTIONS
from kollm.sources.open_platypus import KOPEN_PLATYPUS, OPEN_PLATYPUS
from kollm.sources.prompted import FLAN, P3
from kollm.sources.self_instruct import HUMAN_EVAL, SELF_INSTRUCT
from kollm.sources.sharegpt import SHAREGPT
from kollm.sources.sharegpt_ko import SHAREGPT_KO
from kollm.sources.source import Source
from kollm.sources.synthetic import SYNTHETIC

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(GPT4_LLM, ALPACA, DOLLY, SHAREGPT, SELF_INSTRUCT, HUMAN_EVAL, KULLM_V2),
        *(NATURAL_INSTRUCTIONS, SUPER_NATURAL_INSTRUCTIONS, P3, FLAN, INSTRUCT_WILD, OPEN_PLATYPUS),
        *(KOALPACA_V1, KOALPACA_V1_1, SHAREGPT_KO, KOPEN_PLATYPUS, KORQUAD, AI_HUB, KISTI, SYNTHETIC),
    )
}


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SOURCES:
        raise InputError(f"There is no source '{name}' - use one of {', '.join(SOURCES)}.")
    return SOURCES[name]
