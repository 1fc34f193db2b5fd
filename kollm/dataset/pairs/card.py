"""The card of a dataset of preferences: who preferred, by what, how surely, and what length has to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kollm.core.card import render_template, to_yaml
from kollm.core.licences import common_licence
from kollm.core.preferences import Preference
from kollm.core.version import __version__
from kollm.dataset.card import SIZES
from kollm.dataset.folder import PREFERENCES
from kollm.dataset.pairs.choosing import REASONS


def render_pairs_card(
    title: str, rows: Mapping[str, int], manifest: Mapping[str, Any], pairs: Sequence[Preference]
) -> str:
    """The card of one pair or more.

    Raises:
        InputError: the template names what is not given.
    """
    named = {pair.licence for pair in pairs}
    licence = common_licence(named) if named - {""} else ""
    front: dict[str, Any] = {
        "language": sorted({pair.lang for pair in pairs}, reverse=True),
        **({"license": licence} if licence else {}),
        **({"license_name": "mixed-by-row"} if licence == "other" else {}),
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", "korean", "kollm"],
        "size_categories": [next((name for limit, name in SIZES if sum(rows.values()) < limit), "n>10M")],
        "configs": [
            {
                "config_name": PREFERENCES,
                "default": True,
                "data_files": [{"split": split, "path": f"{PREFERENCES}/{split}-*.parquet"} for split in rows],
            }
        ],
    }
    return render_template(
        "preferences.md.jinja",
        f"the preferences '{title}'",
        front_matter=to_yaml(front),
        title=title,
        rows=rows,
        licence=licence,
        manifest={**manifest, "kollm": __version__},
        facts=manifest["pairs"],
        reasons=REASONS,
        known=manifest["pairs"]["margin"] is not None,
        repeated=manifest["pairs"]["agreement"] is not None,
        varied=manifest["pairs"]["length"]["longer_wins"] is not None,
    )
