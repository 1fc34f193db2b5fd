#!/bin/sh
# Two models answer the same tasks, a third one judges them, and the difference comes with its interval:
#
#     sh examples/compare_two_models.sh MODEL_A MODEL_B JUDGE TASKS [PROMPT]
#
# Models are folders or names on the Hub, asked with the prompt template PROMPT (kullm-2023 by default). TASKS is an
# evaluation dataset (kollm data build human_eval ...). The judge is a model of this machine; for a service write
# --model NAME in place of --engine local --model, and set its key.
set -eu
a=$1 b=$2 judge=$3 tasks=$4 prompt=${5:-kullm-2023}

kollm generate "$a" --prompt "$prompt" --dataset "$tasks" --system a --preset greedy --max-new-tokens 64 -o generations.jsonl
kollm generate "$b" --prompt "$prompt" --dataset "$tasks" --system b --preset greedy --max-new-tokens 64 -o generations.jsonl
kollm judge generations.jsonl --engine local --model "$judge" --rubric kullm2023 -o verdicts.jsonl
kollm compare verdicts.jsonl
