"""The ways to train: supervised, or on preferences. A new one is a line here and a file with its loss.

The keys of a recipe's section `trainer` are those of SFTConfig, and the method's own, as TRL's configuration of that method
calls them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class MethodKey(NamedTuple):
    """A key of `trainer` that one method alone takes.

    Attributes:
        default: its value where a recipe says nothing.
        origin: where that value comes from.
        least, above: it is `least` or more, and below `above`; of a number.
        choices: what it may be; of a name.
    """

    default: Any
    origin: str
    least: float = 0.0
    above: float = math.inf
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train.

    Attributes:
        title: its name for a reader.
        config: TRL's configuration class that has its keys.
        paper: where its loss comes from.
        reference: whether its loss compares with the model that training starts from.
        diverges: whether its loss needs the divergence on mismatched answers.
        by_token: whether it compares answers by their mean log-probability a token.
        keys: what it takes beyond SFTConfig's keys.
        experimental: whether TRL keeps its own trainer of it among experiments.
        learning_rate: of a LoRA, where a recipe is made for rows of one's own.
        loss: where its loss is, as `module:function`; empty for supervised fine-tuning.
    """

    title: str
    config: str
    paper: str
    reference: bool = True
    diverges: bool = False
    by_token: bool = False
    keys: Mapping[str, MethodKey] = field(default_factory=dict)
    experimental: bool = False
    learning_rate: float = 5e-6
    loss: str = ""


METHODS: dict[str, Method] = {
    "sft": Method("supervised fine-tuning", "SFTConfig", "", reference=False, learning_rate=2e-4),
    "dpo": Method(
        "direct preference optimization",
        "DPOConfig",
        "arXiv 2305.18290",
        keys={
            "beta": MethodKey(0.1, "paper", least=1e-12),
            "loss_type": MethodKey(
                "sigmoid", "paper; hinge, ipo and robust are TRL's", choices=("sigmoid", "hinge", "ipo", "robust")
            ),
            "label_smoothing": MethodKey(0.0, "TRL; for loss_type robust", above=0.5),
        },
        loss="kollm.train.preference_losses:dpo",
    ),
    "kto": Method(
        "Kahneman-Tversky optimization",
        "KTOConfig",
        "arXiv 2402.01306",
        diverges=True,
        keys={
            "beta": MethodKey(0.1, "paper", least=1e-12),
            "desirable_weight": MethodKey(1.0, "paper"),
            "undesirable_weight": MethodKey(1.0, "paper"),
        },
        loss="kollm.train.preference_losses:kto",
    ),
    "orpo": Method(
        "odds ratio preference optimization",
        "ORPOConfig",
        "arXiv 2403.07691",
        reference=False,
        by_token=True,
        keys={"beta": MethodKey(0.1, "paper, where it is called lambda")},
        experimental=True,
        learning_rate=8e-6,
        loss="kollm.train.preference_losses:orpo",
    ),
    "simpo": Method(
        "simple preference optimization",
        "CPOConfig",
        "arXiv 2405.14734",
        reference=False,
        by_token=True,
        keys={
            "beta": MethodKey(2.0, "paper", least=1e-12),
            "simpo_gamma": MethodKey(1.0, "paper: half of beta"),
        },
        experimental=True,
        loss="kollm.train.preference_losses:simpo",
    ),
}
"""By the name that a recipe's `method` takes."""
PREFERENCE_METHODS = tuple(name for name in METHODS if name != "sft")


def method_settings(method: str, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The method's own settings: those of the recipe's `trainer` over its defaults."""
    return {name: trainer.get(name, key.default) for name, key in METHODS[method].keys.items()}


def check_method_key(method: str, name: str, value: Any) -> Any:
    """A method's own setting, its number coerced.

    Raises:
        ValueError: it is of another type or out of range.
    """
    key = METHODS[method].keys[name]
    if key.choices:
        if value not in key.choices:
            raise ValueError(f"trainer.{name} is '{value}' - it takes {', '.join(key.choices)}")
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not key.least <= number < key.above:
        bounds = f"{key.least:g} or more" if key.least in (0, 1) else "above 0"
        raise ValueError(
            f"trainer.{name} is {value!r} - it takes a number, {bounds}"
            + ("" if math.isinf(key.above) else f" and below {key.above:g}")
        )
    return number
