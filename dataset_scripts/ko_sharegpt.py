"""ShareGPT in Korean: the run of record, at the revision pinned in kollm/sources, personal data masked.

    python dataset_scripts/ko_sharegpt.py --translator deepl -o ko-sharegpt

Options after the script's name go to `kollm data build`, --push ORG/NAME (publish it) among them: --turns pairs makes a row of each pair, --filters paper drops what
the paper dropped; --dry-run shows what it would cost.
"""

from __future__ import annotations

import sys

from kollm.cli import main

BUILD = ["sharegpt", "--privacy", "mask"]

if __name__ == "__main__":
    main(["data", "build", *BUILD, *sys.argv[1:]])
