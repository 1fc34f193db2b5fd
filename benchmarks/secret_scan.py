"""What the secret scan finds, what it takes for a key wrongly, and how fast it reads.

    python benchmarks/secret_scan.py [--data FOLDER]

Prints recall and false alarms on a labelled set that is made at run time, the alarms on the JSON and JSONL rows of a
folder, and megabytes a second on a parquet file and a text file of 64 MB of Korean.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
from kollm.hub.secrets import Search, find_secrets
from tests.security.key_strings import labelled

TEXT = "대한민국의 수도는 서울입니다. Return the key of the token in data[0], 100% sure; see https://host/a%20b. " * 20


def rows_of(path: Path) -> list[object]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of JSON and JSONL files of real rows")
    options = parser.parse_args()
    search = Search({})
    for seed in range(3):
        rows = labelled(seed, 2000, 2000)
        kinds = search.kinds_of([row.text for row in rows])
        found = [bool(one) == row.is_key for one, row in zip(kinds, rows, strict=True)]
        right = [sum(good for good, row in zip(found, rows, strict=True) if row.is_key == key) for key in (True, False)]
        print(f"seed {seed}: recall {right[0] / 2000:.4f} of 2,000, false alarms {2000 - right[1]} of 2,000")
    if options.data:
        rows = [row for path in sorted(options.data.glob("*.json*")) for row in rows_of(path)]
        alarms = [kinds for kinds in search.kinds_of([json.dumps(row, ensure_ascii=False) for row in rows]) if kinds]
        print(f"{len(rows):,} rows of {options.data.name}: {len(alarms)} alarms {alarms}")
    with tempfile.TemporaryDirectory() as work:
        count = (64 << 20) // len(TEXT.encode())
        table = pa.table({"id": [f"x-{n}" for n in range(count)], "text": [f"{n} {TEXT}" for n in range(count)]})
        pq.write_table(table, Path(work) / "x.parquet")
        (Path(work) / "x.txt").write_text("\n".join(table["text"].to_pylist()), encoding="utf-8")
        del table
        for name in ("x.parquet", "x.txt"):
            start = time.process_time()
            assert not list(find_secrets({name: Path(work) / name}, {}))
            print(f"{name}: {64 / (time.process_time() - start):.0f} MB a second of processor time")
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")


if __name__ == "__main__":
    main()
