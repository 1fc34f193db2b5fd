"""Samples of lm-evaluation-harness and logs of inspect_ai."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.judge.foreign.rows import Found, Source, text_of
from kollm.judge.foreign.scales import SHARES, imported, number
from kollm.judge.rubric import Axis, Rubric

_FIELDS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_HASHES = re.compile(r"_hash$")
_STAMP = re.compile(r"_\d{4}-\d{2}-\d{2}T[\d.:-]+$")
_GRADES = {"c": 1.0, "p": 0.5, "i": 0.0, "n": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
"""Grades of inspect_ai in letters, as its own `value_to_float` counts them."""


def is_lm_eval(row: Mapping[str, Any]) -> bool:
    return {"doc_id", "doc", "resps"} <= row.keys()


def read_lm_eval(source: Source) -> Iterator[Found]:
    """`MODEL/samples_TASK_TIME.jsonl`: one row a document and filter; each metric that is a number becomes an axis.

    Metrics by document come out as recorded; those that only a whole set has, such as perplexities, do not.
    """
    task = _STAMP.sub("", source.stem.removeprefix("samples_"))
    system = source.system or source.path.resolve().parent.name.replace("__", "/")
    scores: dict[str, dict[str, float | None]] = {}
    texts: dict[str, str] = {}
    for place, row in source.rows():
        id = text_of(row.get("doc_id", place))
        filter = text_of(row.get("filter"))
        listed = row.get("metrics")
        names = listed if isinstance(listed, list) else [k for k in row if k not in _FIELDS and not _HASHES.search(k)]
        for name in map(text_of, names):
            value = row.get(name)
            score = float(value) if isinstance(value, bool) else number(value)
            if not isinstance(value, list | dict):
                axis = name if filter in ("", "none") else f"{name} ({filter})"
                scores.setdefault(id, {})[axis] = score
        texts.setdefault(id, _first_text(row.get("resps")))
    axes = list(dict.fromkeys(axis for of in scores.values() for axis in of))
    scale = _scale_of(f"lm-eval {task}", axes)
    for id, found in scores.items():
        of_task = {"id": f"{task}-{id}", "system": system, "response_sha256": text_sha256(texts[id])}
        yield Found(imported(scale, of_task, {axis: found.get(axis) for axis in axes}, source.judge))


def _first_text(resps: Any) -> str:
    while isinstance(resps, list) and resps:
        resps = resps[0]
    return resps if isinstance(resps, str) else ""


def _scale_of(name: str, axes: list[str]) -> Rubric | str:
    """From 0 to 1 where all metrics are such; else only the name is known."""
    plain = [axis.split(" (")[0] for axis in axes]
    if axes and all(axis in SHARES for axis in plain):
        return Rubric(name, "en", tuple(Axis(axis, axis, 0, 1) for axis in axes), "", None, "", False)
    return name


def is_inspect(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("eval"), Mapping) and "samples" in row


def read_inspect(source: Source) -> Iterator[Found]:
    """A log of inspect_ai, `.json` or `.eval`: each scorer of each sample is an axis, each epoch an answer.

    Grades in letters are numbers as inspect_ai counts them (C 1, P 0.5, I and N 0); a sample with an error has no score.
    """
    for _, log in source.rows():
        task = text_of(log["eval"].get("task"))
        system = source.system or text_of(log["eval"].get("model"))
        samples = [sample for sample in log.get("samples") or [] if isinstance(sample, Mapping)]
        graded = [_grades(sample.get("scores")) for sample in samples]
        axes = list(dict.fromkeys(axis for of in graded for axis in of))
        for place, (sample, scores) in enumerate(zip(samples, graded, strict=True)):
            id = f"{task}-{text_of(sample.get('id', place))}"
            epoch = sample.get("epoch")
            number_of_answer = epoch - 1 if isinstance(epoch, int) and epoch > 0 else 0
            output = sample.get("output")
            answer = text_of(output.get("completion")) if isinstance(output, Mapping) else ""
            of_task = {"id": id, "system": system, "response_sha256": text_sha256(answer)}
            error = sample.get("error")
            message = text_of(error.get("message")) if isinstance(error, Mapping) else ""
            verdict = imported(
                f"inspect {task}",
                of_task,
                {axis: scores.get(axis) for axis in axes},
                source.judge,
                answer=number_of_answer,
                status="api_error" if error else "parse_error",
                usage={"error": message} if message else {},
            )
            asked = sample.get("input")
            question = asked if isinstance(asked, str) else _last_user_text(asked)
            yield Found(verdict, Generation(id, question, "", answer, system, "", {}, "", system) if answer else None)


def _grades(scores: Any) -> dict[str, float | None]:
    grades: dict[str, float | None] = {}
    for scorer, score in scores.items() if isinstance(scores, Mapping) else ():
        value = score.get("value") if isinstance(score, Mapping) else score
        if isinstance(value, Mapping):
            grades.update({f"{scorer} {name}": _grade(one) for name, one in value.items()})
        else:
            grades[str(scorer)] = _grade(value)
    return grades


def _grade(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _GRADES:
        return _GRADES[value.strip().lower()]
    return number(value)


def _last_user_text(messages: Any) -> str:
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, Mapping) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""
