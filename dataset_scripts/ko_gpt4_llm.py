"""GPT-4-LLM in Korean: the run of record.

    python dataset_scripts/ko_gpt4_llm.py --translator deepl -o ko-gpt4-llm

Options after the script's name go to `kollm data build`, --push ORG/NAME (publish it) among them; --dry-run shows what it would cost. The Hub's newest commit is
read and written into manifest.json; --revision COMMIT builds that one again.
"""

from __future__ import annotations

import sys

from kollm.cli import main

BUILD = ["gpt4_llm"]

if __name__ == "__main__":
    main(["data", "build", *BUILD, *sys.argv[1:]])
