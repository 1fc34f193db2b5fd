"""`kollm judge`: answers into verdicts, by a model behind a service or by a local one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kollm.core.records import Generation
    from kollm.judge.served import ChatJudge


@click.command(short_help="Judge answers by a rubric.")
@click.argument("generations", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rubric", default="kullm2023", show_default=True, help="kullm2023, kullm2023-fixed, kullm3, or a file.")
@click.option("-o", "--output", default="verdicts.jsonl", type=click.Path(path_type=Path), show_default=True)
@click.option("--engine", default="openai", show_default=True, type=click.Choice(["openai", "local"]))
@click.option("--model", help="Judge [default: a dated snapshot of the service; local: none].")
@click.option("--mode", type=click.Choice(["text", "structured", "logprob"]), help="[default: text; local: its own]")
@click.option("--samples", default=1, show_default=True, type=click.IntRange(1), help="Verdicts an answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="[default: 0 for one sample, 1 for several]")
@click.option("--base-url", help="OpenAI-compatible server, if not OpenAI's [env: OPENAI_BASE_URL].")
@click.option("--key-env", metavar="NAME", help="Variable with that server's key [default: the host's own].")
@click.option("--max-cost", type=float, help="Stop before spending more than this many USD.")
@click.option("--price", nargs=2, type=float, help="USD for a million tokens in and out, if kollm does not know them.")
@click.option("--concurrency", type=click.IntRange(1), help="Requests at once [default: 32].")
@click.option("--batch", is_flag=True, help="Batch API, at half the price: submit; run again to collect.")
@click.option("--against", type=click.Path(path_type=Path), help="Judge pairs with these answers, in both orders.")
@click.option("--limit", type=click.IntRange(1), help="Judge the first N answers only.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and what it costs at most; ask nobody.")
def judge(
    generations: tuple[Path, ...],
    rubric: str,
    output: Path,
    limit: int | None,
    dry_run: bool,
    batch: bool,
    against: Path | None,
    engine: str,
    **options: Any,
) -> None:
    """Judge the answers in GENERATIONS by a rubric. What was judged before is not asked, nor paid, again."""
    from kollm.core.errors import InputError
    from kollm.judge.make import local_model, make_judge

    answers = [answer for path in generations for answer in _read(path)][:limit]
    if not answers:
        raise InputError(f"There are no answers to judge in {', '.join(map(str, generations))} - generate some first.")
    if against is not None:
        _pairs(answers, _read(against), output, dry_run, batch or engine == "local", options)
        return
    if engine == "local" and batch:
        raise InputError("--batch needs a service - leave it out, or use --engine openai.")
    if engine == "local" and dry_run:
        click.echo(f"{local_model(**options)} would judge {len(answers)} answers by {rubric} into {output}.")
        return
    chosen: Any = make_judge(engine, rubric, **options)  # type: ignore[arg-type]
    if engine == "openai" and not _ask_service(chosen, answers, output, dry_run, batch):
        return
    _judge(chosen, answers, output)


def _read(path: Path) -> list[Generation]:
    from kollm.core.errors import InputError
    from kollm.core.files import read_jsonl
    from kollm.core.records import Generation, check_shown

    answers = []
    for number, row in enumerate(read_jsonl(path), start=1):
        for name in ("id", "system", "instruction", "input", "response", "finish_reason"):
            if name in row and not isinstance(row[name], str):
                raise InputError(f"{path}, row {number}: {name} is {row[name]!r} - it must be text.")
        answer = Generation.from_row(row)
        check_shown(f"{path}, row {number}", answer.id, answer.system)
        answers.append(answer)
    return answers


def _ask_service(judge: ChatJudge, answers: Sequence[Generation], output: Path, dry_run: bool, batch: bool) -> bool:
    """Say what it costs; submit or collect a batch. True where judging can go on now."""
    from kollm.core.progress import say
    from kollm.judge.run import Question
    from kollm.services.chat.batch import ChatBatch

    questions = [Question(answer, sample) for answer in answers for sample in range(judge.samples)]
    requests = [judge.request(question) for question in questions]
    half = ", half of that as a batch" if batch else ""
    say(f"{judge.name}, {judge.mode}, rubric {judge.rubric.name}: {judge.client.estimate(requests)}{half}")
    if judge.client.facts.shutdown is not None:
        say(f"Note: {judge.name} has an announced shutdown on {judge.client.facts.shutdown}.")
    if dry_run:
        return False
    job = ChatBatch(judge.client, output.with_name(output.name + ".batch.json"))
    if batch or job.pending:
        state = job.collect() if job.pending else job.submit(requests)
        if not state.done:
            click.echo(
                f"Batch {state.batch_id} of {state.total} requests: {state.status}. Run the same command again to collect it."
            )
            return False
        if state.total:
            say(f"Batch {state.batch_id}: {state.status}, {state.answered} answers, {state.failed} without.")
        if batch and state.failed:
            state = job.submit(requests)
            click.echo(f"Batch {state.batch_id} asks those {state.total} again. Run the same command to collect it.")
            return False
    judge.client.count_earlier(requests)  # only now: a batch may have cost more until its answers were collected
    return True


def _judge(judge: Any, answers: Sequence[Generation], output: Path) -> None:
    from kollm.core.errors import ServiceError
    from kollm.judge.run import judge_generations, read_verdicts

    report = judge_generations(answers, judge, output)
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
        f"{report.verdicts} verdicts in {output} ({report.reused} were there before), {report.statuses.get('ok', 0)} scored"
        + (f", {failed}" if failed else "")
        + (f"; they cost USD {judge.client.spent:.4f} in all" if hasattr(judge, "client") else "")
    )


def _pairs(
    answers: Sequence[Generation],
    others: Sequence[Generation],
    output: Path,
    dry_run: bool,
    excluded: bool,
    options: dict[str, Any],
) -> None:
    from kollm.core.errors import InputError
    from kollm.core.progress import say
    from kollm.judge.make import make_client
    from kollm.judge.pairwise import judge_pairs, match_pairs, pair_requests

    if (
        excluded
        or options["mode"] not in (None, "text")
        or options["samples"] != 1
        or options["temperature"] is not None
    ):
        raise InputError(
            "--against judges pairs in one way, at once, by a service - leave out the other modes and options."
        )
    chosen = {key: options[key] for key in ("base_url", "key_env", "max_cost", "price", "concurrency")}
    client = make_client(options["model"], **chosen)
    say(f"{client.model}, pairs in both orders: {client.estimate(pair_requests(match_pairs(answers, others), client))}")
    if dry_run:
        return
    summary = judge_pairs(answers, others, client, output).summary
    first, second = answers[0].system, others[0].system
    if summary.win_rate is None or summary.consistent is None:
        click.echo(f"No pair of {summary.n_failed} has a choice in both orders; see {output}.")
        return
    interval = "" if summary.ci95 is None else f" (95 % interval {summary.ci95.low:.3f} to {summary.ci95.high:.3f})"
    click.echo(
        f"{first} against {second}: {summary.wins} won, {summary.ties} tied, {summary.losses} lost, of {summary.n}"
    )
    click.echo(f"win rate of {first}: {summary.win_rate:.3f}{interval}")
    click.echo(
        f"same choice in both orders: {summary.consistent:.3f}; always the first shown: {summary.first_preferred:.3f}, "
        f"always the second: {summary.second_preferred:.3f}; without a choice: {summary.n_failed}"
    )
