"""The samples of a report, packed so that a page with 100,000 of them opens at once.

A small index of numbers is read when the page opens: it is enough to filter and sort. The texts lie in blocks of
BLOCK samples, deflated and in base64; the page opens a block when one of its samples is shown or searched.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kollm.core.hashing import text_sha256
from kollm.core.verdicts import STATUSES, Verdict
from kollm.judge.scores import Judging, judging_of
from kollm.quality.flags import FLAGS
from kollm.report.folder import Answered, Material

BLOCK = 100
Key = tuple[str, str]
"""Task id and system as shown."""


class Samples(NamedTuple):
    """What the page needs to show samples.

    Attributes:
        columns: packed columns, one entry a sample: task, system, flags and statuses as bit masks, scores by axis.
        blocks: packed lists of BLOCK samples each, in the order of the columns.
        shown: samples packed.
        left_out: samples that were beyond the limit.
    """

    columns: str
    blocks: list[str]
    shown: int
    left_out: int


def pack_samples(material: Material, judgings: Sequence[Mapping[str, Any]], limit: int) -> Samples:
    """Pack one sample an answer, with its verdicts, ordered by task and then by system.

    Args:
        material: answers and verdicts.
        judgings: as `summarize` gives them; a verdict refers to its judging by position.
        limit: tasks are taken in turn until this many samples are packed.
    """
    answers = material.answers
    by_answer: dict[Key, list[Verdict]] = {}
    for system, verdict in material.verdicts:
        by_answer.setdefault((verdict.id, system), []).append(verdict)
    systems = material.systems
    tasks = dict.fromkeys([task for of_system in answers.values() for task in of_system])
    tasks.update(dict.fromkeys(task for task, _ in by_answer))
    keys = [
        (t, s, place)
        for t in tasks
        for s in systems
        for place in range(len(answers.get(s, {}).get(t, ())) or ((t, s) in by_answer))
    ]
    places = {_judging(judging): position for position, judging in enumerate(judgings)}
    kept = keys[:limit]
    index = _Index(systems, judgings)
    blocks: list[str] = []
    texts: list[dict[str, Any]] = []
    for task, system, number in kept:
        given = answers.get(system, {}).get(task)
        answer = given[number] if given else None
        text = text_sha256(answer.generation.response) if answer and given and len(given) > 1 else None
        placed = [
            (places[judging_of(verdict)], verdict)
            for verdict in by_answer.get((task, system), ())
            if text in (None, verdict.response_sha256)
        ]
        index.add(task, system, answer, placed)
        texts.append(_text(answer, placed, judgings))
        if len(texts) == BLOCK:
            blocks.append(pack(texts))
            texts = []
    if texts:
        blocks.append(pack(texts))
    return Samples(pack(index.columns), blocks, len(kept), len(keys) - len(kept))


def pack(value: Any) -> str:
    """JSON, deflated, in base64: what `unpack` of page.js reads. A lone surrogate becomes U+FFFD in the browser."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"))).decode("ascii")


def _judging(judging: Mapping[str, Any]) -> Judging:
    return Judging(judging["rubric"], judging["rubric_sha256"], judging["mode"], judging["model"])


class _Index:
    """The columns of the index, grown sample by sample."""

    def __init__(self, systems: Sequence[str], judgings: Sequence[Mapping[str, Any]]) -> None:
        self._places = {system: position for position, system in enumerate(systems)}
        self._axes = [(place, axis["key"]) for place, judging in enumerate(judgings) for axis in judging["axes"]]
        self.columns: dict[str, Any] = {
            "systems": list(systems),
            "block": BLOCK,
            "task": [],
            "system": [],
            "flags": [],
            "statuses": [],
            "scores": [[] for _ in self._axes],
        }

    def add(self, task: str, system: str, answer: Answered | None, verdicts: Sequence[tuple[int, Verdict]]) -> None:
        flags = answer.flags if answer else ()
        self.columns["task"].append(task)
        self.columns["system"].append(self._places[system])
        self.columns["flags"].append(sum(1 << FLAGS.index(flag) for flag in flags))
        self.columns["statuses"].append(sum(1 << STATUSES.index(s) for s in {v.status for _, v in verdicts}))
        for column, (place, axis) in zip(self.columns["scores"], self._axes, strict=True):
            found = [v.scores.get(axis) for position, v in verdicts if position == place]
            scored = [score for score in found if score is not None]
            column.append(round(sum(scored) / len(scored), 3) if scored else None)


def _text(
    answer: Answered | None, verdicts: Sequence[tuple[int, Verdict]], judgings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    generation = answer.generation if answer else None
    return {
        "instruction": generation.instruction if generation else "",
        "input": generation.input if generation else "",
        "system_message": generation.system_message if generation else "",
        "tools": generation.tools if generation else "",
        "history": [list(turn) for turn in generation.history] if generation else [],
        "reference": generation.reference if generation else "",
        "response": generation.response if generation else "",
        "verdicts": [
            {
                "judging": place,
                "sample": verdict.sample,
                "status": verdict.status,
                "scores": [verdict.scores.get(axis["key"]) for axis in judgings[place]["axes"]],
                "raw": verdict.raw,
            }
            for place, verdict in verdicts
        ],
    }
