"""The report: one HTML file that needs no network, the same numbers as JSON, and a markdown table for cards."""

from __future__ import annotations

from kollm.report.write import write_report

__all__ = ["write_report"]
