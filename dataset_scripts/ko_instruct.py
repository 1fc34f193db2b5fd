"""GPT-4-LLM, Dolly and ShareGPT in Korean, KULLM's three: the run of record.

    python dataset_scripts/ko_instruct.py --translator deepl -o ko-instruct

Duplicates are told across the three. Options after the script's name go to `kollm data build`, --push ORG/NAME (publish it) among them; --dry-run shows what it
would cost. The newest commit of GPT-4-LLM is read and written into manifest.json.
"""

from __future__ import annotations

import sys

from kollm.cli import main

BUILD = [
    *("gpt4_llm", "dolly", "sharegpt"),
    *("--privacy", "mask"),
]

if __name__ == "__main__":
    main(["data", "build", *BUILD, *sys.argv[1:]])
