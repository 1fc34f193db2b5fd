"""Decoding presets: how answers are drawn, by name."""

from __future__ import annotations

from typing import Any

from kollm.core.errors import InputError

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "num_beams": 4,
        "do_sample": False,
        "repetition_penalty": 1.4,
        "max_new_tokens": 400,
        # The paper names these beside do_sample=False, which leaves them without effect.
        "recorded": {"temperature": 0.1, "top_k": 40, "top_p": 0.75},
    },
    "beam-sample": {
        "num_beams": 4,
        "do_sample": True,
        "repetition_penalty": 1.4,
        "max_new_tokens": 400,
        "temperature": 0.1,
        "top_k": 40,
        "top_p": 0.75,
        "recorded": {},
    },
    "sample": {
        "num_beams": 1,
        "do_sample": True,
        "repetition_penalty": 1.0,
        "max_new_tokens": 400,
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 0.95,
        "recorded": {},
    },
    "greedy": {"num_beams": 1, "do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 400, "recorded": {}},
}
"""Decoding presets; `paper` is Section 7.1 of the paper, `sample` draws answers that differ, to choose among. `recorded` is
written down and not applied."""


def decoding(preset: str, max_new_tokens: int | None = None, samples: int = 1) -> dict[str, Any]:
    """The parameters of a preset, with its own length limit or the one given, and `samples` where there are several.

    Raises:
        InputError: there is no such preset, or it gives one answer and several samples are asked for.
    """
    if preset not in PRESETS:
        raise InputError(f"There is no decoding preset '{preset}' - use one of {', '.join(PRESETS)}.")
    params = {"preset": preset, **PRESETS[preset], **({"samples": samples} if samples > 1 else {})}
    if samples > 1 and not params["do_sample"]:
        drawing = [name for name, values in PRESETS.items() if values["do_sample"]]
        raise InputError(
            f"The preset {preset} gives the same answer {samples} times - draw samples by one of {', '.join(drawing)}."
        )
    return params if max_new_tokens is None else {**params, "max_new_tokens": max_new_tokens}
