"""Finds the files that come with kollm, in a checkout and in an installed wheel alike.

`accelerate_configs` and `model_cards` stand at the top of the repository, the only copy; the wheel carries
them as `kollm/_bundled/NAME`.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def resource_folder(name: str) -> Path:
    """The folder `accelerate_configs`, `model_cards`, `recipe/recipes`, `recipe/templates`, `sources/sample_rows` or another of the package."""
    for candidate in (PACKAGE / name, PACKAGE / "_bundled" / name, PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"kollm was installed without its folder '{name}' - install it again.")
