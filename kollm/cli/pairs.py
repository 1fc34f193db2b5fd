"""`kollm data pairs`: preference pairs of judged answers, of people's labels, or of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kollm.cli.own import own_from, own_options
from kollm.core.counting import counted
from kollm.recipe.engines import TRANSLATORS

if TYPE_CHECKING:
    from kollm.dataset.pairs.settings import PairSettings, PairsReport


@click.command(short_help="Preference pairs of judged answers, labels or files.")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--axis", help="Axis that decides, or a sum: 2*coherence+naturalness [default: overall_quality, or the only one]."
)
@click.option("--margin", default=0.0, show_default=True, help="Least difference of two scores.")
@click.option(
    "--agreement",
    default=0.75,
    show_default=True,
    help="Least share of the verdicts that prefer the chosen answer, where anything was judged twice.",
)
@click.option(
    "--take",
    type=click.Choice(["best", "all"]),
    default="best",
    show_default=True,
    help="The best pair of a prompt, or all that are good enough.",
)
@click.option("--max-length-ratio", type=float, help="Most that one answer may be longer than the other, e.g. 2.")
@click.option(
    "--balance-length", is_flag=True, help="Leave pairs out until longer answers are chosen as often as shorter ones."
)
@click.option("--allow-cut", is_flag=True, help="Let answers that were cut at the token limit be chosen.")
@click.option("--test", default=0.0, show_default=True, help="Share of the prompts that are held out, as split `test`.")
@click.option("--rubric", help="Rubric whose verdicts count, where there are several.")
@click.option("--judge", help="Judge whose verdicts count, where there are several.")
@click.option(
    "--against",
    multiple=True,
    default=("human_eval",),
    show_default=True,
    metavar="SET",
    help="Evaluation sets whose tasks make no pairs: human_eval, sample, a file, folder or Hub id.",
)
@click.option(
    "--leaks",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="Pairs that hold an evaluation task.",
)
@own_options
@click.option(
    "--translator",
    type=click.Choice([name for name in TRANSLATORS if name != "memory"]),
    default="none",
    show_default=True,
    help="For English pairs; both answers go in one document.",
)
@click.option("--model", help="Model of the translator, where it has a choice.")
@click.option("--max-characters", type=click.IntRange(min=0), help="Cap on the characters billed.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Cap on their price in USD.")
@click.option("--limit", type=click.IntRange(min=1), help="Rows to read of each file of pairs.")
@click.option(
    "--dry-run", is_flag=True, help="Count the pairs and what their translation costs; write and send nothing."
)
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the dataset.")
def pairs(
    inputs: tuple[str, ...],
    translator: str,
    model: str | None,
    max_characters: int | None,
    max_cost: float | None,
    dry_run: bool,
    output: str,
    **options: Any,
) -> None:
    """Make a dataset of preference pairs, on which `method: dpo` and the like train.

    INPUTS are answers with what is thought of them - a run, or generations.jsonl with verdicts.jsonl, pairwise verdicts or the
    labels.csv of `kollm app` - or pairs: any file, folder or Hub dataset with a prompt, a chosen and a rejected answer.
    """
    from kollm.core.progress import say
    from kollm.dataset.pairs.make import make_pairs
    from kollm.dataset.pairs.plan import plan_pairs
    from kollm.dataset.pairs.translation import PairTranslation

    settings = _settings(options)
    translation = PairTranslation(translator, model, max_characters, max_cost)
    if dry_run:
        for line in plan_pairs(inputs, settings, translation):
            click.echo(line)
        return
    report = make_pairs(inputs, output, settings, translation)
    _tell(report)
    if report.characters:
        say(f"{counted(report.characters, 'character was', 'characters were')} billed.")
    click.echo(f"{report.folder}")


def _settings(options: dict[str, Any]) -> PairSettings:
    from kollm.dataset.pairs.choosing import Limits
    from kollm.dataset.pairs.settings import PairSettings

    return PairSettings(
        limits=Limits(
            options["margin"], options["agreement"], options["max_length_ratio"], options["take"], options["allow_cut"]
        ),
        axis=options["axis"],
        rubric=options["rubric"],
        judge=options["judge"],
        balance=options["balance_length"],
        test=options["test"],
        against=tuple(name for name in options["against"] if name != "none"),
        leaks=options["leaks"],
        limit=options["limit"],
        own=own_from(options),
    )


def _tell(report: PairsReport) -> None:
    from kollm.dataset.pairs.choosing import REASONS

    for split, count in report.rows.items():
        click.echo(f"{split}: {counted(count, 'pair')}")
    for reason, count in report.left_out.items():
        click.echo(f"no pair, {REASONS.get(reason, reason)}: {count:,}")
    if report.failed:
        click.echo(
            "verdicts without a score: " + ", ".join(f"{count:,} {status}" for status, count in report.failed.items())
        )
    if report.outdated:
        click.echo(f"verdicts on other texts than these answers: {report.outdated:,}")
    if report.margin is not None:
        sure = (
            "nothing was judged twice" if report.agreement is None else f"{report.agreement:.0%} of the verdicts agree"
        )
        click.echo(f"mean margin {report.margin:.2f}; {sure}")
    click.echo(f"length: {report.length.sentence()}")
