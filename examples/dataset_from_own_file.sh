#!/bin/sh
# A dataset from rows of your own, checked for evaluation tasks, and read by `load_dataset`:
#
#     sh examples/dataset_from_own_file.sh my.jsonl my-rows CC-BY-4.0
#
# Any form that people keep instruction rows in is read (docs/data.md); the command says which one it took. The licence
# is that of your rows: it is written beside each of them, and a push asks for it.
set -eu
file=$1 dataset=$2 licence=$3

kollm data build own --input "$file" --source-name my-rows --licence "$licence" -o "$dataset"
kollm data leaks "$dataset"
python - "$dataset" <<'PYTHON'
import sys

from datasets import load_dataset

rows = load_dataset(sys.argv[1], split="train")
print("Rows:", len(rows), "- the first:", rows[0]["instruction"])
PYTHON
