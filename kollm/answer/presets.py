"""Decoding presets: how answers are drawn, by name."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Decoding(NamedTuple):
    """How answers are drawn, and how many to each task.

    Attributes:
        preset: a key of PRESETS.
        max_new_tokens: cap on an answer's tokens; None for the preset's.
        samples: answers to each task, by a preset that samples.
    """

    preset: str = "paper"
    max_new_tokens: int | None = None
    samples: int = 1

    def params(self) -> dict[str, Any]:
        """The parameters of the preset, with its own cap or the one given, and `samples` where there are several.

        Raises:
            InputError: there is no such preset, or it gives one answer and several samples are asked for.
        """
        if self.preset not in PRESETS:
            raise InputError(f"There is no decoding preset '{self.preset}' - use one of {', '.join(PRESETS)}.")
        params = {"preset": self.preset, **PRESETS[self.preset]}
        if self.samples > 1:
            if not params["do_sample"]:
                drawing = [name for name, values in PRESETS.items() if values["do_sample"]]
                raise InputError(
                    f"The preset {self.preset} gives the same answer {self.samples} times - draw samples by one of "
                    f"{', '.join(drawing)}."
                )
            params["samples"] = self.samples
        return params if self.max_new_tokens is None else {**params, "max_new_tokens": self.max_new_tokens}


PAPER = Decoding()
