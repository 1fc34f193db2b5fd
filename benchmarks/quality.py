"""Recall, precision and false alarms of the default filters and of the screen for personal data, by kind, on labelled text.

    python benchmarks/quality.py [ENGLISH.jsonl KOREAN.jsonl]

The labelled rows stand in tests/quality/labelled. With two files of Self-Instruct's evaluation tasks (the same ids, English
and Korean) each pair of their instructions and inputs is tried too, and every one that would be dropped is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kollm.core.files import read_jsonl
from kollm.quality.estimates import estimates
from kollm.quality.filters import FILTERS, drop_reason
from tests.quality.labelled import personal_data, translations


def main() -> None:
    print("| kind | rows | dropped | flagged |\n|---|---:|---:|---:|")
    found = translations.figures()
    for kind, counts in found.items():
        print(f"| {kind} | {counts.rows} | {counts.dropped} | {counts.flagged} |")
    good = found.pop("good")
    wrong, dropped = sum(item.rows for item in found.values()), sum(item.dropped for item in found.values())
    told = dropped + sum(item.flagged for item in found.values())
    print(f"\nDropped: recall {dropped / wrong:.3f}, precision {dropped / (dropped + good.dropped):.3f}")
    all_told = told + good.dropped + good.flagged
    print(f"Dropped or flagged: recall {told / wrong:.3f}, precision {told / all_told:.3f}\n")
    print("| personal data | values | masked | clean sentences | changed |\n|---|---:|---:|---:|---:|")
    for kind, screened in personal_data.figures().items():
        print(f"| {kind} | {screened.values} | {screened.masked} | {screened.clean} | {screened.alarms} |")
    if len(sys.argv) == 3:
        _try_pairs(Path(sys.argv[1]), Path(sys.argv[2]))


def _try_pairs(english_file: Path, korean_file: Path) -> None:
    korean = {row["id"]: row for row in read_jsonl(korean_file)}
    pairs = drops = flags = 0
    for row in read_jsonl(english_file):
        other = korean[row["id"]]
        for english, translated in (
            (row["instruction"], other["instruction"]),
            (row["instances"][0]["input"], other["instances"][0]["input"]),
        ):
            if not english.strip():
                continue
            pairs += 1
            view = translations.make_view((row["instruction"], english), (other["instruction"], translated))
            view.korean.pop("instruction")
            reason = drop_reason(view, FILTERS["default"])
            flags += reason is None and bool(estimates(view))
            if reason is not None:
                drops += 1
                print(f"\n{row['id']}, {reason}\n  {english[:300]!r}\n  {translated[:300]!r}")
    print(f"\n{pairs} pairs: {drops} dropped (above), {flags} flagged")


if __name__ == "__main__":
    main()
