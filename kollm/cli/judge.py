"""`kollm judge`: answers into verdicts, by a model behind a service or by a local one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from kollm.cli.tables import p_value
from kollm.core.counting import counted

if TYPE_CHECKING:
    from kollm.core.generations import Generation
    from kollm.judge.agreement import PositionBias
    from kollm.judge.pairwise import PairVerdict
    from kollm.judge.run import Written
    from kollm.judge.served import ChatJudge, Prompts
    from kollm.services.budget import Budget
    from kollm.services.chat import ChatClient, ChatRequest


@click.command(short_help="Judge answers by a rubric.")
@click.argument("generations", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rubric",
    default="kullm2023-fixed",
    show_default=True,
    help="A rubric that comes with kollm (docs/judge.md lists them), or a file; kullm2023 is the paper's.",
)
@click.option("-o", "--output", default="verdicts.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option("--engine", default="openai", show_default=True, type=click.Choice(["openai", "local", "rules"]))
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Judge; repeat for a panel of several [default: a dated snapshot of the service; local: none].",
)
@click.option(
    "--mode",
    type=click.Choice(["text", "structured", "rationale", "logprob"]),
    help="[default: text; local: its own]",
)
@click.option("--samples", default=1, show_default=True, type=click.IntRange(1), help="Verdicts an answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="[default: 0 for one sample, 1 for several]")
@click.option(
    "--reply-tokens", type=click.IntRange(1), help="Room of a reply [default: 512; rationale: 2048; pairs: 256]."
)
@click.option(
    "--reasoning-tokens",
    type=click.IntRange(0),
    help="Room for thinking before it [default: by the model; own server: 4096].",
)
@click.option(
    "--tasks", type=click.Path(path_type=Path), help="JSONL of tasks: id, reference, category, checklist, rules ..."
)
@click.option("--base-url", help="OpenAI-compatible server, if not OpenAI's [env: OPENAI_BASE_URL].")
@click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own].")
@click.option("--max-cost", type=float, help="Stop before spending more than this many USD.")
@click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if kollm does not know them.")
@click.option("--concurrency", type=click.IntRange(1), help="Requests at once [default: 32].")
@click.option("--batch", is_flag=True, help="Batch API, at half the price: submit; run again to collect.")
@click.option("--against", type=click.Path(path_type=Path), help="Judge pairs with these answers, in both orders.")
@click.option("--keep-going", is_flag=True, help="Go on though the first replies give no score.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Answers that were made elsewhere: instruction=COLUMN response=COLUMN, and input, id, system.",
)
@click.option("--limit", type=click.IntRange(1), help="Judge the first N answers only.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and what it costs at most; ask nobody.")
@click.pass_context
def judge(
    context: click.Context,
    /,
    generations: tuple[Path, ...],
    output: Path,
    limit: int | None,
    tasks: Path | None,
    against: Path | None,
    mapping: tuple[str, ...],
    **options: Any,
) -> None:
    """Judge the answers in GENERATIONS by a rubric. What was judged before is not asked, nor paid, again."""
    from kollm.core.errors import InputError
    from kollm.judge.tasks import with_tasks

    sides = [
        [answer for path in paths for answer in _answers(path, mapping)][:limit]
        for paths in (generations, () if against is None else (against,))
    ]
    if not sides[0]:
        raise InputError(f"There are no answers to judge in {', '.join(map(str, generations))} - generate some first.")
    if tasks is not None:
        sides = [with_tasks(side, tasks) if side else side for side in sides]
    if against is not None:
        if context.get_parameter_source("rubric") is ParameterSource.COMMANDLINE:
            raise InputError("--against has a question of its own - leave out --rubric.")
        _pairs(sides[0], sides[1], output, options)
    else:
        _scores(sides[0], output, **options)


def _scores(answers: Sequence[Generation], output: Path, *, models: Sequence[str], rubric: str, **options: Any) -> None:
    """Judge by each model in turn, under one cap."""
    from kollm.core.errors import InputError
    from kollm.judge.run import Written
    from kollm.services.budget import Budget

    if len(models) > 1 and (options["batch"] or options["price"] is not None):
        raise InputError("--batch and --price are for one --model - judge by each of them apart, into one file.")
    shared = _Shared(Budget(max_cost=options["max_cost"]), Written(), {})
    for model in dict.fromkeys(models or (None,)):
        _by_one_judge(answers, output, rubric=rubric, shared=shared, model=model, **options)


class _Shared(NamedTuple):
    """What several judges of one command have in common: a cap, the file that they write, and what they are asked."""

    budget: Budget
    written: Written
    prompts: Prompts


def _by_one_judge(
    answers: Sequence[Generation],
    output: Path,
    *,
    rubric: str,
    shared: _Shared,
    dry_run: bool,
    batch: bool,
    **options: Any,
) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.make import JudgeOptions, make_judge

    given = JudgeOptions(**options)
    if given.engine != "openai" and batch:
        raise InputError("--batch needs a service - leave it out, or use --engine openai.")
    if given.engine == "local" and dry_run:
        click.echo(f"{given.local_model()} would judge {counted(len(answers), 'answer')} by {rubric} into {output}.")
        return
    chosen: Any = make_judge(rubric, given, budget=shared.budget)
    for answer in answers:
        chosen.rubric.check(answer)
    _say_family(chosen.name, answers)
    if given.engine == "rules" and dry_run:
        click.echo(f"The rules of {rubric} would be checked on {counted(len(answers), 'answer')} into {output}.")
        return
    if given.engine == "openai":
        chosen.prompts = shared.prompts
    if given.engine == "openai" and not _ask_service(chosen, answers, output, dry_run, batch):
        return
    _judge(chosen, answers, output, shared.written)


def _say_family(judge: str, answers: Sequence[Generation]) -> None:
    """Warn of a judge whose own family is judged."""
    from kollm.core.progress import say
    from kollm.judge.families import of_judges_family

    if own := of_judges_family(judge, {answer.system: answer.model for answer in answers}):
        say(
            f"Note: {', '.join(own)}: of the family of the judge {judge}, which may favour it - judge by another family's model too."
        )


def _answers(path: Path, mapping: tuple[str, ...]) -> list[Generation]:
    """Answers of kollm's, or those that were made elsewhere, in any form."""
    from kollm.answer import elsewhere
    from kollm.judge.tasks import read_answers

    if not mapping and elsewhere.is_generations(path):
        return list(read_answers(path))
    return elsewhere.read_answers(path, mapping)


def _ask_service(judge: ChatJudge, answers: Sequence[Generation], output: Path, dry_run: bool, batch: bool) -> bool:
    """Say what it costs; submit or collect a batch. True where judging can go on now."""
    from kollm.judge.run import questions_on

    requests = [judge.request(question) for question in questions_on(answers, judge.samples)]
    what = f"{judge.name}, {judge.mode}, rubric {judge.rubric.name}"
    return _told_and_ready(judge.client, requests, what, output, dry_run, batch)


def _told_and_ready(
    client: ChatClient, requests: Sequence[ChatRequest], what: str, output: Path, dry_run: bool, batch: bool
) -> bool:
    from kollm.core.progress import say
    from kollm.services.chat.batch import ChatBatch

    client.say_estimate(requests, what, ", half of that as a batch" if batch else "")
    if client.facts.shutdown is not None:
        say(f"Note: {client.model} has an announced shutdown on {client.facts.shutdown}.")
    if dry_run:
        return False
    job = ChatBatch(client, output.with_name(output.name + ".batch.json"))
    if batch or job.pending:
        state = job.collect() if job.pending else job.submit(requests)
        if not state.done:
            click.echo(
                f"Batch {state.batch_id} of {counted(state.total, 'request')}: {state.status}. Run the same command again to collect it."
            )
            return False
        if state.total:
            say(f"Batch {state.batch_id}: {state.status}, {counted(state.answered, 'answer')}, {state.failed} without.")
        if batch and state.failed:
            state = job.submit(requests)
            click.echo(f"Batch {state.batch_id} asks those {state.total} again. Run the same command to collect it.")
            return False
    client.count_earlier(requests)  # only now: a batch may have cost more until its answers were collected
    return True


def _judge(judge: Any, answers: Sequence[Generation], output: Path, written: Written) -> None:
    from kollm.core.errors import ServiceError
    from kollm.judge.run import judge_generations
    from kollm.judge.verdicts import read_verdicts

    report = judge_generations(answers, judge, output, written=written)
    if report.statuses.get("api_error") == report.verdicts:
        verdict = next(v for v in reversed(read_verdicts(output)) if v.status == "api_error")
        raise ServiceError(f"No answer was judged: {verdict.usage.get('error', 'no reply')} - run the command again.")
    axes = [axis.key for axis in judge.rubric.axes]
    click.echo("  ".join(["system".ljust(20), *axes]))
    for system, scores in report.scores.items():
        values = ["-" if scores[axis] is None else f"{scores[axis]:.3f}" for axis in axes]
        click.echo(
            "  ".join([system.ljust(20), *(value.rjust(len(axis)) for axis, value in zip(axes, values, strict=True))])
        )
    failed = ", ".join(f"{status} {count}" for status, count in report.statuses.items() if status != "ok")
    click.echo(
        f"{counted(report.verdicts, 'verdict')} in {output} ({report.reused} were there before), {report.statuses.get('ok', 0)} scored"
        + (f", {failed}" if failed else "")
        + (f"; they cost USD {judge.client.spent:.4f} in all" if hasattr(judge, "client") else "")
    )


def _pairs(answers: Sequence[Generation], others: Sequence[Generation], output: Path, options: dict[str, Any]) -> None:
    from kollm.core.errors import InputError
    from kollm.judge.make import JudgeOptions
    from kollm.judge.pairwise import judge_pairs, match_pairs, pair_requests
    from kollm.judge.served import ReplyBudget

    if (
        options["engine"] != "openai"
        or options["mode"] not in (None, "text")
        or options["samples"] != 1
        or options["temperature"] is not None
    ):
        raise InputError("--against judges pairs in one way, by a service - leave out the other modes and options.")
    if len(options["models"]) > 1:
        raise InputError("--against judges pairs by one model - give one --model.")
    chosen = {key: options[key] for key in ("base_url", "key_env", "max_cost", "price", "concurrency")}
    chosen["model"] = next(iter(options["models"]), None)
    client = JudgeOptions(**chosen).client()
    budget = ReplyBudget(options["reply_tokens"], options["reasoning_tokens"])
    requests = pair_requests(match_pairs(answers, others), client, budget)
    what = f"{client.model}, pairs in both orders"
    if not _told_and_ready(client, requests, what, output, options["dry_run"], options["batch"]):
        return
    result = judge_pairs(answers, others, client, output, budget=budget)
    for (first, second), summary in result.summaries.items():
        _say_pair(first, second, summary, output)
    statuses = Counter(status for verdict in result.verdicts for status in verdict.statuses if status != "ok")
    failed = "".join(f", {status} {count}" for status, count in sorted(statuses.items()))
    cost = sum(verdict.cost for verdict in result.verdicts)
    if len(result.summaries) > 1:
        click.echo(f"p-values are corrected over these {counted(len(result.summaries), 'pair')} of systems (Holm)")
    click.echo(
        f"{counted(len(result.verdicts), 'pair')} in {output}, each asked twice{failed}; they cost USD {cost:.4f} in all"
    )
    if len(result.summaries) > 1:
        _say_ranking(result.verdicts)


def _say_pair(first: str, second: str, summary: PositionBias, output: Path) -> None:
    if summary.win_rate is None or summary.consistent is None or summary.p_holm is None:
        click.echo(
            f"{first} against {second}: no pair of {summary.n_failed} has a choice in both orders; see {output}."
        )
        return
    interval = "" if summary.ci95 is None else f" (95 % interval {summary.ci95.low:.3f} to {summary.ci95.high:.3f})"
    click.echo(
        f"{first} against {second}: {summary.wins} won, {summary.ties} tied, {summary.losses} lost, of {summary.n}"
    )
    click.echo(f"win rate of {first}: {summary.win_rate:.3f}{interval}, p {p_value(summary.p_holm)}")
    click.echo(
        f"same choice in both orders: {summary.consistent:.3f}; always the first shown: {summary.first_preferred:.3f}, "
        f"always the second: {summary.second_preferred:.3f}; without a choice: {summary.n_failed}"
    )


def _say_ranking(verdicts: Sequence[PairVerdict]) -> None:
    from kollm.judge.ranking import rank

    click.echo("Bradley-Terry strength, logarithm, ties as half a win (95 % interval):")
    ranking = rank(verdicts)
    for row in ranking.rows:
        interval = "" if row.ci95 is None else f" ({row.ci95.low:+.2f} to {row.ci95.high:+.2f})"
        click.echo(f"  {row.system.ljust(24)} {row.strength:+.2f}{interval}  {row.wins}/{row.ties}/{row.losses}")
    click.echo(f"All equally strong (Wald test by cluster): p {p_value(ranking.p_equal)}")
