"""Options for rows of a user's own, which every command with `--dataset` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kollm.sources.own import OwnOptions

DATASET = "DATASET[:weight=W|:limit=N|:repeat=R][:name=NAME]"
"""What `--dataset` takes where several make a mixture."""
NAMES = ("mapping", "source_name", "licence", "hub_config", "split")


def own_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--map`, `--source-name`, `--licence`, `--hub-config` and `--split`."""
    for option in reversed(
        (
            click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="Column of your rows that holds a field, e.g. instruction=질문 output=답변."),
            click.option("--source-name", default="own", show_default=True, help="Name of your rows, in ids and cards."),
            click.option("--licence", default="", help="Licence of your rows; needed to push, not to train."),
            click.option("--hub-config", help="Config of a dataset on the Hub that has several."),
            click.option("--split", help="Split of your rows; default: train, or for questions test."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def own_from(options: dict[str, Any], *, asked: bool = False) -> OwnOptions:
    """What the options say; they leave `options`."""
    from kollm.sources.own import OwnOptions

    values = {name: options.pop(name) for name in NAMES}
    return OwnOptions(
        mapping=tuple(values["mapping"]),
        name=values["source_name"],
        licence=values["licence"] or "",
        config=values["hub_config"],
        split=values["split"],
        asked=asked,
    )
