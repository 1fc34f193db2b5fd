"""`kollm data judge`: how often a sample of translated rows is wrong, by a judge's word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kollm.core.counting import counted

if TYPE_CHECKING:
    from kollm.core.records import Record
    from kollm.quality.translation_judge import TranslationVerdict


@click.command("judge", short_help="Judge the translation of a sample, for the card.")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(["openai", "metricx"]), default="openai", show_default=True)
@click.option("--model", help="Judge [default: a dated snapshot of the service, or MetricX-24 large].")
@click.option("--tokenizer", help="Of MetricX: mT5's, as ORG/NAME or a folder.")
@click.option("--sample", default=200, show_default=True, type=click.IntRange(1), help="Rows to judge.")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--base-url", help="OpenAI-compatible server, if not OpenAI's [env: OPENAI_BASE_URL].")
@click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own].")
@click.option("--max-cost", type=float, help="Stop before spending more than this many USD.")
@click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if kollm does not know them.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and what it costs at most; ask nobody.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the verdicts, one JSON object a line.")
def judge(
    dataset: Path, engine: str, sample: int, seed: int, dry_run: bool, output: Path | None, **options: Any
) -> None:
    """Compare a random sample of DATASET's translated rows with their English, and write the error rate into its card.

    No row is dropped for it. What was judged before is not asked, nor paid, again.
    """
    from kollm.core.errors import InputError
    from kollm.core.files import json_line, write_atomic
    from kollm.dataset.folder import read_records
    from kollm.dataset.translation_check import write_check
    from kollm.quality.translation_judge import draw_sample, error_rate

    records, out_of = draw_sample(read_records(dataset), sample, seed)
    if not records:
        raise InputError(f"'{dataset}' has no translated rows - build it with a translator first.")
    verdicts = _by_metricx(records, options, dry_run) if engine == "metricx" else _by_chat(records, options, dry_run)
    if verdicts is None:
        return
    found = error_rate(verdicts, out_of)
    if not found.judged:
        raise InputError(
            f"None of {counted(found.sampled, 'row')} could be judged ({verdicts[0].status}) - try another judge."
        )
    if output is not None:
        write_atomic(output, "".join(json_line(verdict.to_row()) for verdict in verdicts))
    write_check(dataset, found)
    click.echo(
        f"{found.judged} of {counted(found.sampled, 'row')} judged: {found.major} with a major error, {100 * found.rate:.1f}% "
        f"(95% interval {100 * found.low:.1f}% to {100 * found.high:.1f}%), {found.minor} with a minor one."
    )


def _by_chat(records: list[Record], options: dict[str, Any], dry_run: bool) -> list[TranslationVerdict] | None:
    from kollm.core.errors import InputError
    from kollm.judge.make import JudgeOptions
    from kollm.quality.translation_judge import judge_by_chat, judge_requests
    from kollm.services.chat import run_async

    if options.pop("tokenizer"):
        raise InputError("--tokenizer is for MetricX - leave it out, or use --engine metricx.")
    client = JudgeOptions(**options).client()
    client.say_estimate(judge_requests(client, records))
    return None if dry_run else run_async(judge_by_chat(client, records))


def _by_metricx(records: list[Record], options: dict[str, Any], dry_run: bool) -> list[TranslationVerdict] | None:
    from kollm.core.errors import InputError, MissingExtraError

    try:
        from kollm.quality.metricx import MODEL, MetricX
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    unused = [name for name in ("base_url", "key_env", "max_cost", "price") if options[name]]
    if unused:
        names = ", ".join("--" + name.replace("_", "-") for name in unused)
        raise InputError(f"MetricX runs on this machine and costs nothing - leave out {names}, or use --engine openai.")
    model = options["model"] or MODEL
    if dry_run:
        click.echo(f"{model} would judge {counted(len(records), 'row')}.")
        return None
    return MetricX(model, options["tokenizer"]).verdicts(records)
