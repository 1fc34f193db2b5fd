"""From work folders to report.html, report.json and report.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kollm.core.errors import InputError
from kollm.core.files import ensure_folder
from kollm.core.lock import output_lock
from kollm.core.ownership import require_sealed, write_sealed
from kollm.judge.labels import Labels, read_labels
from kollm.report.folder import WorkFolder, gather, read_judged
from kollm.report.markdown import markdown_tables
from kollm.report.render import render_page
from kollm.report.samples import pack_samples
from kollm.report.summary import summarize

SAMPLES = 20_000
"""Answers packed into the page unless told otherwise; the numbers are always over all."""


def write_report(
    folders: Sequence[Path],
    output: Path | None = None,
    *,
    rubrics: Iterable[str | Path] = (),
    samples: int = SAMPLES,
    labels: Path | None = None,
) -> Path:
    """Report one run, or several beside each other.

    Args:
        folders: work folders; each may hold run.json, dataset/manifest.json, adapter/metrics.json, generations.jsonl and
            verdicts.jsonl, of which at least one is needed. A file of verdicts among them is another judge's.
        output: a file that ends in .html, or a folder for report.html; None for the first work folder. The JSON and the
            markdown table are written beside it under the same name.
        rubrics: files of rubrics that do not come with kollm, for the ranges and labels of their axes.
        samples: the most answers that the page shows.
        labels: a file of people's scores of some of the answers, which correct the judges (`kollm.judge.corrected`).

    Returns:
        The path of the HTML file, written last.

    Raises:
        InputError: a folder holds nothing to report or a malformed file, or the output cannot be written or would replace
            what kollm did not write.
        StateError: another process writes it.
    """
    if not folders:
        raise InputError("There is no folder to report - name at least one work folder.")
    rubrics = tuple(rubrics)
    read = [read_judged(Path(folder), rubrics) for folder in folders]
    page = Path(_beside(Path(folders[0])) if output is None else output)
    if page.suffix.lower() != ".html":
        page = page / "report.html"
    with output_lock(page):
        return _write(page, read, rubrics, samples, None if labels is None else read_labels(labels))


def _write(
    page: Path, read: Sequence[WorkFolder], rubrics: Iterable[str | Path], samples: int, labels: Labels | None
) -> Path:
    ensure_folder(page.parent)
    for path in (page, page.with_suffix(".json"), page.with_suffix(".md")):
        require_sealed(path)
    material = gather(read)
    summary = summarize(read, material, rubrics, labels)
    packed = pack_samples(material, summary["judgings"], samples)
    write_sealed(page.with_suffix(".json"), summary)
    write_sealed(page.with_suffix(".md"), markdown_tables(summary))
    write_sealed(page, render_page(summary, packed))
    return page


def _beside(first: Path) -> Path:
    """Where a report goes unless told: the first folder, or that of the first file."""
    return first.parent if first.is_file() else first
