"""A judge's error rate, written into the card and the manifest of a dataset folder."""

from __future__ import annotations

import re
from pathlib import Path

from kollm.core.errors import InputError
from kollm.core.files import file_sha256, write_atomic
from kollm.core.lock import output_lock
from kollm.core.ownership import own_files, require_own, write_sealed
from kollm.dataset.folder import CARD, MANIFEST, read_manifest
from kollm.quality.translation_judge import ErrorRate

KEY = "translation_check"
_BEFORE = "\n## Known limits\n"
_SECTION = re.compile(r"\n## Quality of the translation\n.*?(?=\n## |\Z)", re.DOTALL)


def write_check(folder: Path, found: ErrorRate) -> None:
    """Put an error rate into a dataset folder, in place of an earlier one.

    Raises:
        InputError: it is no dataset folder, or it was changed by others since kollm wrote it.
        StateError: another process writes it.
    """
    with output_lock(folder):
        _write(folder, found)


def _write(folder: Path, found: ErrorRate) -> None:
    manifest = read_manifest(folder)
    require_own(folder, own_files(folder), "the card with the error rate")
    card = _SECTION.sub("", (folder / CARD).read_text(encoding="utf-8"))
    if _BEFORE not in card:
        raise InputError(f"The card of '{folder}' has no part '{_BEFORE.strip()}' - build the dataset again.")
    before, _, after = card.partition(_BEFORE)
    write_atomic(folder / CARD, before + _section(found) + _BEFORE + after)
    write_sealed(folder / MANIFEST, {**manifest, KEY: found._asdict(), "card": file_sha256(folder / CARD)})


def _section(found: ErrorRate) -> str:
    failed = found.sampled - found.judged
    more = f" {failed} more of the sample could not be judged." if failed else ""
    return (
        f"\n## Quality of the translation\n\n`{found.judge}` compared {found.judged:,} translated rows, drawn at random from "
        f"{found.out_of:,}, with their English.{more} It found a major error in {found.major:,} of them, a rate of "
        f"{100 * found.rate:.1f}% (95% interval {100 * found.low:.1f}% to {100 * found.high:.1f}%), and nothing worse than a minor one in "
        f"{found.minor:,}. The judge errs too: its word is an estimate.\n"
    )
