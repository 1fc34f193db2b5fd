"""`kollm show ID -o DIR`: one example at every stage of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command(short_help="Follow one example through every stage.")
@click.argument("example")
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Work folder of a run.")
def show(example: str, folder: Path) -> None:
    """Follow one example through every stage: source row, Korean record, prompt, answers, verdicts.

    EXAMPLE is a record's id, e.g. gpt4_llm-0 or human_eval-sample_task_0.
    """
    from kollm.core.errors import InputError

    stages = list(_stages(example, folder))
    if not stages:
        raise InputError(f"No stage of '{folder}' holds the example '{example}' - ids are in dataset/ and evaluation/.")
    for title, body in stages:
        click.secho(f"== {title}", bold=True)
        click.echo(body + "\n")


def _stages(example: str, folder: Path) -> Iterator[tuple[str, str]]:
    from kollm.core.errors import InputError
    from kollm.core.files import read_jsonl
    from kollm.core.parquet import parquet_rows
    from kollm.core.records import Record
    from kollm.core.results import read_run_file
    from kollm.recipe.prompt import PromptTemplate

    if not folder.is_dir():
        raise InputError(f"The work folder '{folder}' does not exist - name one that `kollm run` made.")
    run = read_run_file(folder / "run.json") if (folder / "run.json").is_file() else {}
    prompt_name = run.get("recipe", {}).get("prompt", "kullm-2023")
    template = PromptTemplate.load(prompt_name) if prompt_name in PromptTemplate.names() else None
    for part in _dataset_folders(folder, run):
        for file in sorted(part.glob("*/*.parquet")):
            for row in parquet_rows(file, [("id", "=", example)]):
                reason = row.pop("reason", None)
                record = Record.from_row(row)
                if record.original is not None:
                    yield (
                        "source row (English)" if record.translated else "source row (as it was read)",
                        _pretty(row["original"]),
                    )
                names = ("id", "source", "system", "tools", "history", "instruction", "input", "output", "licence")
                shown = {key: row[key] for key in names if key in row}
                yield (
                    f"record in {part.name}/{file.parent.name}" + (f", rejected: {reason}" if reason else ""),
                    _pretty(_with_tools(shown)),
                )
                yield "provenance", _pretty(row["provenance"])
                if reason is None and template is not None:
                    prompt = template.prompt(record.instruction, record.input, record.history, system=record.system)
                    yield f"prompt ({template.name}), then the completion", f"{prompt}{record.output}<EOS>"
    for name, title in (("generations.jsonl", "answer of"), ("verdicts.jsonl", "verdict on")):
        if (folder / name).is_file():
            for row in read_jsonl(folder / name):
                if row.get("id") == example:
                    yield f"{title} {row.get('system')}", _pretty(_with_tools(row))


def _dataset_folders(folder: Path, run: dict[str, Any]) -> Iterator[Path]:
    for stage in ("dataset", "evaluation"):
        result = run.get("stages", {}).get(stage, {}).get("result") or {}
        path = folder / result.get("location", stage)
        if path.is_dir():
            yield path


def _with_tools(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its tools as a list that can be read, where they are one."""
    from kollm.recipe.tools import definitions

    tools = row.get("tools")
    found = definitions(tools) if isinstance(tools, str) else []
    return {**row, "tools": found} if found else row


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
