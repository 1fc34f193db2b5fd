"""Recorded judgments of Korean projects: LogicKor, KULLM3 and komt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.judge.foreign.rows import Found, Source, text_of
from kollm.judge.foreign.scales import KOMT, KULLM3, LOGICKOR, imported, number
from kollm.judge.parse import parse_verdict


def is_logickor(row: Mapping[str, Any]) -> bool:
    return "questions" in row and "query_single" in row


def read_logickor(source: Source) -> Iterator[Found]:
    """`evaluated/ORG/MODEL/STRATEGY.jsonl`: two turns a row, each with its judge's message and a score from 1 to 10."""
    system = source.system or source.name_after("evaluated")
    for number_of_row, row in source.rows():
        questions, outputs = row["questions"], row.get("outputs") or []
        references = row.get("references") or []
        task = text_of(row.get("id", number_of_row))
        for turn, key in enumerate(("query_single", "query_multi")):
            judged = row.get(key)
            if not isinstance(judged, Mapping) or turn >= len(questions):
                continue
            answer = text_of(outputs[turn]) if turn < len(outputs) else ""
            of_task = {
                "id": f"logickor-{task}-t{turn + 1}",
                "system": system,
                "category": text_of(row.get("category")),
                "cluster": f"logickor-{task}",
                "response_sha256": text_sha256(answer),
            }
            reference = references[turn] if turn < len(references) else None
            history = [(text_of(questions[0]), text_of(outputs[0]) if outputs else "")] if turn else []
            yield Found(
                imported(
                    LOGICKOR,
                    of_task,
                    {"score": number(judged.get("judge_score"))},
                    source.judge,
                    raw=text_of(judged.get("judge_message")),
                ),
                _answer(
                    of_task, text_of(questions[turn]), answer, history=tuple(history), reference=text_of(reference)
                ),
            )


def is_kullm3(row: Mapping[str, Any]) -> bool:
    replies = [row.get(key) for key in ("evaluation", "judgement", "judgment", "reply")]
    return any(isinstance(reply, str) and "Overall Quality" in reply for reply in replies)


def read_kullm3(source: Source) -> Iterator[Found]:
    """KULLM3's judge in its own words: a list of replies, or rows with one; the five axes are read by kollm's parser."""
    system = source.system or source.stem
    for place, row in source.rows(key="evaluation"):
        reply = next((row[key] for key in ("evaluation", "judgement", "judgment", "reply") if row.get(key)), "")
        answer = text_of(row.get("completion") or row.get("response") or row.get("output"))
        of_task = {"id": f"kullm3-{text_of(row.get('id', place))}", "system": system}
        if answer:
            of_task["response_sha256"] = text_sha256(answer)
        scores = parse_verdict(text_of(reply), "kullm3")
        question = text_of(row.get("prompt") or row.get("instruction"))
        verdict = imported(KULLM3, of_task, scores, source.judge, raw=text_of(reply))
        yield Found(verdict, _answer(of_task, question, answer) if answer else None)


def is_komt(row: Mapping[str, Any]) -> bool:
    return {"instruction", "answer", "chatgpt", "score"} <= row.keys()


def read_komt(source: Source) -> Iterator[Found]:
    """`eval_results/score_result_MODEL.jsonl`: an answer, the judge's reply and a score."""
    system = source.system or source.stem.removeprefix("score_result_")
    for place, row in source.rows():
        answer = text_of(row["answer"]).removesuffix("</s>")
        of_task = {
            "id": f"komt-{text_of(row.get('id', place))}",
            "system": system,
            "response_sha256": text_sha256(answer),
        }
        verdict = imported(KOMT, of_task, {"score": number(row["score"])}, source.judge, raw=text_of(row["chatgpt"]))
        yield Found(verdict, _answer(of_task, text_of(row["instruction"]).strip(), answer))


def _answer(of_task: Mapping[str, str], question: str, response: str, **beside: Any) -> Generation:
    more: dict[str, Any] = {key: of_task.get(key, "") for key in ("category", "cluster")}
    return Generation(
        of_task["id"], question, "", response, of_task["system"], "", {}, "", of_task["system"], **more, **beside
    )
