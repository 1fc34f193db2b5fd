"""Rows of a user's own, in whatever form people keep them."""

from kollm.sources.own.source import OWN, OwnOptions, OwnRows, own_records, read_own

__all__ = ["OWN", "OwnOptions", "OwnRows", "own_records", "read_own"]
