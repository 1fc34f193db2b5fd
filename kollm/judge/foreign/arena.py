"""Recorded judgments of AlpacaEval and of MT-Bench (FastChat)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.verdicts import Status
from kollm.judge.choices import Choice
from kollm.judge.foreign.rows import Found, Source, text_of
from kollm.judge.foreign.scales import ALPACA_EVAL, MT_BENCH, imported, number
from kollm.judge.pairwise import PairVerdict


def is_alpaca_eval(row: Mapping[str, Any]) -> bool:
    return {"preference", "generator_1", "generator_2"} <= row.keys()


def read_alpaca_eval(source: Source) -> Iterator[Found]:
    """`annotations.json`: the judge's preference from 1 (the baseline's answer) to 2, in one order, perhaps a probability.

    Older files have 0 for a tie. The score is the chance that the system's answer is preferred: their mean is the win rate.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for _, row in source.rows():
        system = source.system or text_of(row["generator_2"])
        question, answer = text_of(row.get("instruction")), text_of(row.get("output_2"))
        name = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[system, name] += 1
        repeated = f"-{seen[system, name]}" if seen[system, name] > 1 else ""
        preference = number(row["preference"])
        score = None if preference is None else 0.5 if preference == 0 else preference - 1
        of_task = {
            "id": f"alpaca-eval-{name}{repeated}",
            "system": system,
            "category": text_of(row.get("dataset")),
            "response_sha256": text_sha256(answer),
        }
        usage = {"baseline": text_of(row["generator_1"]), "orders": 1}
        if (cost := number(row.get("price_per_example"))) is not None:
            usage["cost"] = cost
        raw = row.get("raw_completion")
        verdict = imported(
            ALPACA_EVAL,
            of_task,
            {"win_rate": score},
            source.judge or text_of(row.get("annotator")),
            raw=raw if isinstance(raw, str) else "",
            usage=usage,
        )
        generation = Generation(of_task["id"], question, "", answer, system, "", {}, "", system)
        yield Found(verdict, generation)


def is_mt_bench(row: Mapping[str, Any]) -> bool:
    return {"question_id", "judge"} <= row.keys() and ({"score", "turn"} <= row.keys() or "g1_winner" in row)


def read_mt_bench(source: Source) -> Iterator[Found]:
    """`model_judgment/*_single.jsonl`, ratings by turn, or `*_pair.jsonl`, winners in both orders."""
    for _, row in source.rows():
        question, turn = text_of(row["question_id"]), text_of(row.get("turn", 1))
        asked = row["judge"]
        judge = source.judge or text_of(asked[0] if isinstance(asked, list) and asked else asked)
        id, cluster = f"mt-bench-{question}-t{turn}", f"mt-bench-{question}"
        if "g1_winner" in row:
            yield Found(_pair(row, id, cluster, judge))
            continue
        rating = number(row["score"])
        of_task = {
            "id": id,
            "system": source.system or text_of(row.get("model")),
            "cluster": cluster,
            "category": text_of(row.get("category")),
        }
        yield Found(imported(MT_BENCH, of_task, {"rating": rating}, judge, raw=text_of(row.get("judgment"))))


def _pair(row: Mapping[str, Any], id: str, cluster: str, judge: str) -> PairVerdict:
    """The first game shows model_1 first, the second model_2; both winners are names."""
    first = {"model_1": "first", "model_2": "second", "tie": "tie"}.get(text_of(row["g1_winner"]))
    second = {"model_1": "second", "model_2": "first", "tie": "tie"}.get(text_of(row.get("g2_winner")))
    outcomes = {("first", "second"): "a", ("second", "first"): "b", ("tie", "tie"): "tie"}
    statuses = tuple("ok" if choice else "parse_error" for choice in (first, second))
    return PairVerdict(
        id=id,
        system_a=text_of(row.get("model_1")),
        system_b=text_of(row.get("model_2")),
        response_sha256_a="",
        response_sha256_b="",
        prompt_sha256="",
        model_requested=judge,
        model_returned=judge,
        forward=cast(Choice | None, first),
        backward=cast(Choice | None, second),
        outcome=outcomes.get((first, second), "inconsistent") if first and second else None,
        raw=(text_of(row.get("g1_judgment")), text_of(row.get("g2_judgment"))),
        statuses=cast(tuple[Status, Status], statuses),
        errors=("" if first else "no certain choice", "" if second else "no certain choice"),
        cluster=cluster,
    )
