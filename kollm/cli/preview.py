"""`kollm preview`: rows or pairs as the model sees them, in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kollm.cli.own import DATASET, own_from, own_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kollm.core.preferences import Preference
    from kollm.core.records import Record
    from kollm.recipe.schema import Recipe
    from kollm.sources.own import OwnOptions
    from kollm.train.preview import PairPreview, Preview, ShownPair, Span

_NARROWEST = 24
"""Cells of a column of the two answers; on a narrower terminal they stand below each other."""
_TAB = 4


@click.command()
@click.argument("recipe")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar=DATASET,
    help="What is trained on, if not the recipe's data; as for train.",
)
@click.option("--base", type=click.Path(path_type=Path), help="Folder of the base, for its tokenizer.")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(1), help="Rows to show.")
@own_options
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the recipe.")
def preview(
    recipe: str, datasets: tuple[str, ...], base: Path | None, rows: int, overrides: tuple[str, ...], **own: Any
) -> None:
    """Decoded training samples with the loss mask shown.

    Without --dataset they are the recipe's own where that takes no download and no translator, else the bundled sample's.
    What the loss covers is green on a terminal, and stands between ⟦ and ⟧ elsewhere ([[ and ]] where the terminal
    has no such signs). Of a recipe that trains on preferences, both answers of a pair are shown: on a terminal beside
    each other, elsewhere one below the other.
    """
    from kollm.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides)
    preferring = _preferring(loaded, datasets)
    if preferring is None:
        _show_rows(_rows(loaded, datasets, base, rows, own_from(own)))
    else:
        _show_pairs(_pairs(preferring, datasets, base, rows, own_from(own)))


def _preferring(recipe: Recipe, datasets: Sequence[str]) -> Recipe | None:
    """The recipe of the training on pairs: itself, or its section `preference` where pairs are given; else None."""
    from kollm.dataset.given import is_own
    from kollm.dataset.preferences import has_preferences
    from kollm.recipe.load import preferring
    from kollm.services.repository import locate

    if recipe.method != "sft":
        return recipe
    if recipe.preference is None or len(datasets) != 1 or is_own(datasets[0]):
        return None
    return preferring(recipe) if has_preferences(locate(datasets[0], "dataset").folder) else None


def _rows(recipe: Recipe, datasets: Sequence[str], base: Path | None, rows: int, said: OwnOptions) -> Preview:
    import tempfile

    from kollm.dataset.folder import training_parts
    from kollm.dataset.given import given_datasets
    from kollm.dataset.mixture import parse_given
    from kollm.run.data import training_rows
    from kollm.train.preview import make_preview, preview_tokenizer

    parts: dict[str, list[Record]]
    if not datasets:
        recipe, parts = training_rows(recipe)
    else:
        given = [parse_given(text) for text in datasets]
        with tempfile.TemporaryDirectory() as work:
            folder = given_datasets(given, Path(work), said, recipe.data.seed)
            parts = {name: list(records) for name, records in training_parts(folder)}
    records = [record for part in parts.values() for record in part]
    return make_preview(recipe, parts, preview_tokenizer(recipe, records, base), rows)


def _pairs(recipe: Recipe, datasets: Sequence[str], base: Path | None, rows: int, said: OwnOptions) -> PairPreview:
    import tempfile

    from kollm.dataset.mixture import parse_given
    from kollm.dataset.pairs.dataset import one_of_pairs
    from kollm.dataset.preferences import read_preferences
    from kollm.recipe.schema import GivenDataset
    from kollm.train.preview import make_pair_preview, preview_tokenizer

    data = recipe.data
    given = [parse_given(text) for text in datasets] or [
        *data.datasets,
        *([GivenDataset(dataset=data.dataset)] if data.dataset else []),
    ]
    with tempfile.TemporaryDirectory() as work:
        name = one_of_pairs(given, Path(work), said, recipe.method)
        pairs: list[Preference] = list(read_preferences(name, "train"))
    records = [pair.record(side) for pair in pairs for side in ("chosen", "rejected")]
    return make_pair_preview(recipe, pairs, preview_tokenizer(recipe, records, base), rows)


def _show_rows(shown: Preview) -> None:
    for name, spans in shown.rows.items():
        click.echo(f"--- {name}")
        for span in spans:
            click.echo(_text(span), nl=False)
        click.echo()
    _end(shown.summary())


def _show_pairs(shown: PairPreview) -> None:
    width = (shutil.get_terminal_size().columns - 3) // 2 if sys.stdout.isatty() else 0
    for name, pair in shown.pairs.items():
        click.echo(f"--- {name}")
        for span in pair.prompt:
            click.echo(span.text, nl=False)
        if pair.prompt and not pair.prompt[-1].text.endswith("\n"):
            click.echo()
        if width >= _NARROWEST:
            _show_beside(pair, width)
            continue
        for side, spans in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            click.echo(f"[{side}] {''.join(map(_text, spans))}")
    _end(shown.summary())


def _show_beside(pair: ShownPair, width: int) -> None:
    """Both answers in columns of so many cells."""
    bar = "│" if _can_write("│") else "|"
    click.echo(f"{'[chosen]':<{width}} {bar} [rejected]")
    sides = [pair.chosen, pair.rejected]
    if not _has_colour():  # the brackets take cells too
        sides = [[span._replace(text=_text(span), learned=False) for span in side] for side in sides]
    for left, right in zip_longest(*(_lines(side, width) for side in sides), fillvalue=()):
        room = " " * (width - sum(_cells(span.text) for span in left))
        click.echo(f"{''.join(map(_text, left))}{room} {bar} {''.join(map(_text, right))}")


def _lines(spans: Sequence[Span], width: int) -> Iterator[Sequence[Span]]:
    """Spans cut into lines of at most so many cells, at their own ends of lines too."""
    line: list[Span] = []
    taken = 0
    for span in spans:
        text = ""
        for sign in span.text.expandtabs(_TAB):
            if sign == "\n" or taken + _cells(sign) > width:
                yield [*line, span._replace(text=text)]
                line, text, taken = [], "", 0
            if sign != "\n":
                text, taken = text + sign, taken + _cells(sign)
        line.append(span._replace(text=text))
    yield line


def _cells(text: str) -> int:
    """How many cells of a terminal a text takes: Hangul takes two a syllable."""
    marks = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(sign) in marks else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def _text(span: Span) -> str:
    """A span's text; what the loss covers is green on a terminal, and in brackets elsewhere."""
    if not span.learned or not span.text:
        return span.text
    if _has_colour():
        return click.style(span.text, fg="green")
    return f"⟦{span.text}⟧" if _can_write("⟦⟧") else f"[[{span.text}]]"


def _has_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _can_write(signs: str) -> bool:
    try:
        signs.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _end(summary: Sequence[str]) -> None:
    click.echo("---")
    for line in summary:
        click.echo(line)
