"""Metrics for the `evaluate` library: the folder of each is also its Space."""

from __future__ import annotations

from kollm.core.resources import PACKAGE


def metric_path() -> str:
    """The folder of `kollm_judge`, for `evaluate.load`, in a checkout and in an installed wheel alike."""
    return str(PACKAGE / "metrics" / "kollm_judge")
