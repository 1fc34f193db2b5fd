"""One row is followed by opening few files, and not by going back and forth between them."""

from __future__ import annotations

from benchmarks.row_path import row_path


def test_a_row_passes_few_files_and_moves_seldom() -> None:
    files = row_path()
    assert {"sources/dolly.py", "dataset/finish.py", "dataset/tables.py"} <= set(files)
    assert len(set(files)) <= 20, sorted(set(files))
    assert len(files) - 1 <= 60, files
