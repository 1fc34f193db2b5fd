"""The 252 user-oriented evaluation tasks in Korean, references too: the run of record.

    python dataset_scripts/ko_human_eval.py --translator deepl -o ko-human-eval

Every task is kept, in the split `test`. Options after the script's name go to `kollm data build`, --push ORG/NAME (publish it) among them; --input FILE reads the
tasks from a local copy of the authors' JSONL.
"""

from __future__ import annotations

import sys

from kollm.cli import main

BUILD = ["human_eval"]

if __name__ == "__main__":
    main(["data", "build", *BUILD, *sys.argv[1:]])
