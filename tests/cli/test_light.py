"""Which commands start torch: those that train, load or decode a model, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kollm.cli import COMMANDS
from kollm.dataset.folder import DatasetWriter, Part
from kollm.dataset.tables import to_table
from tests.report.fabricate import make_work_folder
from tests.train.conftest import row

LINES = """
recipe list
recipe show demo
recipe check demo
plan kullm-polyglot-5.8b
plan demo
data plan dolly --input sample
data build dolly --input sample --memory sample --processes 0 -o {work}/built
data leaks {work}/rows
data review {work}/built -o {work}/review.jsonl
run demo -o {work}/demo --dry-run
generate my-adapter --dataset {work}/rows --dry-run
generate my-adapter --dataset {work}/rows --engine vllm --preset greedy --dry-run
train kullm-polyglot-5.8b --dataset {work}/rows -o {work}/adapter --config cpu --dry-run
judge {work}/run/generations.jsonl --rubric kullm2023 --model gpt-4 --dry-run -o {work}/verdicts.jsonl
verdicts plan {work}/run/verdicts.jsonl --difference 0.5
compare {work}/run/verdicts.jsonl
report {work}/run -o {work}/report.html
show human_eval-1 -o {work}/run
ledger stats
push dataset {work}/built ORG/NAME --dry-run
serve my-adapter --dry-run
completion bash
"""
MODELS = {"bench", "preview", "vocabulary", "chat", "merge", "app", "doctor"}
"""Commands whose work is a tokenizer, a model or the machine's devices."""
PROGRAM = """
import json, sys
import click
from click.testing import CliRunner
from kollm.cli import cli

def walk(command, path):
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), [*path, name])

lines = [[*path, "--help"] for path in walk(cli, [])] + [line.split() for line in sys.argv[1].splitlines() if line]
ran = []
for line in lines:
    result = CliRunner().invoke(cli, line)
    if isinstance(result.exception, Exception) and result.exception.__class__.__module__ == "builtins":
        raise result.exception
    ran.append([line, result.exit_code, "torch" in sys.modules, result.output[-300:]])
print(json.dumps(ran))
"""


def test_only_commands_whose_work_is_a_model_start_torch(tmp_path: Path) -> None:
    make_work_folder(tmp_path / "run", tasks=6)
    with DatasetWriter(tmp_path / "rows") as writer:
        writer.write(Part("dolly", "train"), to_table([row(number) for number in range(6)]))
        writer.publish({"sources": ["dolly"]}, "---\nlicense: cc-by-sa-3.0\n---\n# Rows\n")
    lines = LINES.format(work=tmp_path)
    done = subprocess.run([sys.executable, "-c", PROGRAM, lines], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout.splitlines()[-1])
    assert [line for line, _, torch, _ in ran if torch][:1] == []
    refused = {" ".join(line[:2]): said for line, code, _, said in ran if code}
    assert list(refused) == ["plan demo", "serve my-adapter"]  # a toy fits anywhere; there is no such adapter
    helps = [line for line, *_ in ran if line[-1] == "--help"]
    assert len(helps) > 40 and {line[0] for line in helps} >= set(COMMANDS)
    assert {line.split()[0] for line in LINES.splitlines() if line} == set(COMMANDS) - MODELS
