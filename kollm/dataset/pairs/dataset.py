"""What `--dataset` names where preferences are trained on: a dataset folder of kollm with pairs, or pairs of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.hashing import content_id
from kollm.core.progress import say
from kollm.dataset.folder import MANIFEST, read_manifest
from kollm.dataset.given import FOLDER, is_own, options_of
from kollm.dataset.pairs.make import make_pairs
from kollm.dataset.pairs.settings import PairSettings
from kollm.recipe.schema import GivenDataset
from kollm.sources.own import OwnOptions
from kollm.sources.own.pairs import read_own_pairs


def one_of_pairs(given: Sequence[GivenDataset], work: Path, options: OwnOptions, method: str) -> str:
    """As `given_pairs`, of what a recipe or several `--dataset` name: a method of preferences takes one dataset, whole.

    Raises:
        InputError: as `given_pairs`, or there are several, or an amount is said.
    """
    if not given:
        raise InputError(f"The method {method} needs pairs, and none are named - name them with --dataset.")
    if len(given) > 1 or given[0].amount:
        raise InputError(
            f"The method {method} trains on one dataset of pairs - put several together with: kollm data pairs A B -o PAIRS."
        )
    return given_pairs(given[0].dataset, work, options_of(given[0], options))


def given_pairs(name: str | Path, work: Path, options: OwnOptions | None = None) -> str:
    """The dataset folder or Hub name of pairs to train on; pairs of a user's own are made one first.

    Args:
        name: what `--dataset` names.
        work: folder beside which the dataset is kept.
        options: what the user says of pairs of their own.

    Raises:
        InputError: there is no such dataset, it holds no pairs, or an evaluation task is among them.
        ServiceError: the Hub cannot be reached.
    """
    if not is_own(name):
        return str(name)
    if str(name) == "-":
        raise InputError("Pairs are not read from standard input here - write them to a file, and name that.")
    options = options or OwnOptions()
    own = read_own_pairs(name, options)
    key = content_id({"pairs": own.rows.revision, **asdict(options)})
    folder = work / FOLDER / f"pairs-{key.removeprefix('sha256:')[:12]}"
    if (folder / MANIFEST).is_file():
        rows = sum(read_manifest(folder)["rows"].values())
        say(f"{own.rows.where}: {counted(rows, 'pair')}, as read before ({folder})")
        return str(folder)
    report = make_pairs([name], folder, PairSettings(own=options))
    say(f"{own.rows.where}: {counted(sum(report.rows.values()), 'pair')}; {report.length.sentence()}")
    return str(folder)
