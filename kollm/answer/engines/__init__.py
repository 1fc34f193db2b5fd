"""Generation engines: what turns the token ids of prompts into those of answers. Another one is a file and a line of `ENGINES`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from kollm.core.errors import InputError
from kollm.services.local_model import LocalModel


class EngineFacts(NamedTuple):
    """What is known of an engine before it is loaded.

    Attributes:
        place: its class, as `module:class`.
        batch_size: prompts that it likes at once.
        beams: whether it searches with beams.
    """

    place: str
    batch_size: int
    beams: bool


ENGINES = {
    "transformers": EngineFacts("kollm.answer.engines.transformers:TransformersEngine", 16, beams=True),
    "vllm": EngineFacts("kollm.answer.engines.vllm:VllmEngine", 512, beams=False),
}
"""By the name that `kollm generate --engine` takes."""


class Weights(NamedTuple):
    """What an engine loads.

    Attributes:
        model: the base, or a whole model.
        adapter: on it; None for none.
        tokens: of the tokenizer, which may know more than the base does.
        dtype: weights' type on a GPU.
    """

    model: LocalModel
    adapter: LocalModel | None
    tokens: int
    dtype: str


class Asked(NamedTuple):
    """One batch.

    Attributes:
        prompts: token ids of each.
        keys: what each is of, which decides what it samples.
        params: of the decoding, see `kollm.answer.presets`.
        ends: tokens that end an answer.
        tokenizer: the system's, for padding.
    """

    prompts: Sequence[Sequence[int]]
    keys: Sequence[Any]
    params: Mapping[str, Any]
    ends: Sequence[int]
    tokenizer: Any


class Engine(Protocol):
    """A model that is loaded."""

    context: int
    """Tokens that a prompt and its answer may take together."""

    def answer(self, asked: Asked) -> list[list[int]]:
        """Token ids after each prompt; what stands behind one of `ends`, and it itself, may be there or not.

        Raises:
            InputError: the device's memory does not hold the batch.
        """


def engine_for(name: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """The engine that decodes with these parameters, and a sentence where it is not the one that was asked for.

    Raises:
        InputError: there is no such engine.
    """
    if name not in ENGINES:
        raise InputError(f"There is no engine '{name}' - use one of {', '.join(ENGINES)}.")
    if params["num_beams"] > 1 and not ENGINES[name].beams:
        return "transformers", (
            f"the preset {params['preset']} searches with {params['num_beams']} beams and a repetition penalty, which {name}'s beam "
            "search does not know: the engine transformers answers"
        )
    return name, ""


def load_engine(name: str, weights: Weights) -> Engine:
    """Load a model into an engine.

    Raises:
        InputError: it cannot be read, the engine cannot do it, or it is not installed.
    """
    module, attribute = ENGINES[name].place.split(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)(weights)
    return engine
