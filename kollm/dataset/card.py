"""The card of a dataset folder: its YAML, which the Hub's viewer and `load_dataset` read, and the text below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kollm.core.card import render_template, to_yaml
from kollm.core.licences import common_licence
from kollm.dataset.folder import REJECTED

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


class CardPart(NamedTuple):
    """One split of one config, as the card shows it.

    Attributes:
        rows: its rows.
        title: the source's name for a reader.
        origin: where the rows came from: Hub id and revision, or hash of the local file.
        licences: licences of its rows.
        terms: what the provider asks beyond them.
    """

    config: str
    split: str
    rows: int
    title: str
    origin: str
    licences: tuple[str, ...]
    terms: str


def render_card(
    title: str, parts: Sequence[CardPart], manifest: Mapping[str, Any], languages: Sequence[str] = ("ko",)
) -> str:
    """The card of a dataset whose rejected rows, if any, are the last of the parts.

    Raises:
        InputError: the template names what is not given.
    """
    kept = [part for part in parts if part.config != REJECTED]
    named = {name for part in parts for name in part.licences}
    licence = common_licence(named) if named - {""} else ""
    front = {
        "language": list(languages),
        **({"license": licence} if licence else {}),
        "task_categories": ["text-generation"],
        "tags": ["instruction-tuning", "korean", "kollm"],
        "size_categories": [next((name for limit, name in SIZES if sum(p.rows for p in kept) < limit), "n>10M")],
        "configs": _configs(parts),
    }
    if licence == "other":
        front["license_name"] = "mixed-by-row"
    return render_template(
        "dataset.md.jinja",
        f"the dataset '{title}'",
        front_matter=to_yaml(front),
        title=title,
        languages=list(languages),
        parts=parts,
        licence=licence,
        manifest=manifest,
        rejected=REJECTED,
    )


def _configs(parts: Sequence[CardPart]) -> list[dict[str, Any]]:
    """A config a source, and first `all`, the default: a glob over the files of the others, not a second copy."""
    by_config: dict[str, dict[str, str]] = {}
    for part in parts:
        by_config.setdefault(part.config, {})[part.split] = f"{part.config}/{part.split}-*.parquet"
    everything: dict[str, list[str]] = {}
    for config, files in by_config.items():
        for split, glob in files.items():
            if config != REJECTED:
                everything.setdefault(split, []).append(glob)
    configs: list[dict[str, Any]] = []
    if everything:
        files_of_all = [{"split": split, "path": globs} for split, globs in sorted(everything.items(), reverse=True)]
        configs.append({"config_name": "all", "default": True, "data_files": files_of_all})
    for config, files in by_config.items():
        data_files = [{"split": split, "path": glob} for split, glob in files.items()]
        configs.append({"config_name": config, "data_files": data_files})
    return configs
