"""Dolly 15k in Korean: the run of record, at the revision pinned in kollm/sources.

    python dataset_scripts/ko_dolly.py --translator deepl -o ko-dolly

Options after the script's name go to `kollm data build`, --push ORG/NAME (publish it) among them; --dry-run shows what it would cost.
"""

from __future__ import annotations

import sys

from kollm.cli import main

BUILD = ["dolly"]

if __name__ == "__main__":
    main(["data", "build", *BUILD, *sys.argv[1:]])
