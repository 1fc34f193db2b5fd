"""Packing: what is packed can be unpacked, in order, once each, within the limit; and odd text survives."""

import base64
import json
import random
import zlib
from dataclasses import replace
from typing import Any

from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.report.folder import Answered, Material
from kollm.report.samples import BLOCK, pack_samples
from tests.report.fabricate import make_verdict


def _unpack(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed)).decode("utf-8", "surrogatepass"))


def _answer(task: int, system: str, response: str = "답") -> Answered:
    return Answered(Generation(f"t-{task}", "지시", "", response, "m", "", {}, "stop", system), ())


def _judging(verdict: Verdict) -> dict[str, Any]:
    return {
        "rubric": verdict.rubric,
        "rubric_sha256": verdict.rubric_sha256,
        "mode": verdict.mode,
        "model": verdict.model_requested,
        "axes": [{"key": key} for key in verdict.scores],
    }


def test_a_sample_has_the_tools_of_its_task() -> None:
    generation = replace(_answer(0, "a").generation, tools='[{"type": "function"}]')
    verdict = make_verdict(random.Random(0), generation, "kullm2023", "text", "m", 0.5, 0.0)
    samples = pack_samples(
        Material({"a": {"t-0": [Answered(generation, ())]}}, [("a", verdict)]), [_judging(verdict)], 10_000
    )
    assert _unpack(samples.blocks[0])[0]["tools"] == generation.tools


def test_every_answer_once_by_task_then_system() -> None:
    answers = {s: {f"t-{n}": [_answer(n, s, f"{s}{n}")] for n in range(BLOCK)} for s in ("a", "b")}
    verdict = make_verdict(random.Random(0), answers["b"]["t-3"][0].generation, "kullm2023", "text", "m", 0.5, 0.0)
    samples = pack_samples(Material(answers, [("b", verdict)]), [_judging(verdict)], 10_000)
    columns = _unpack(samples.columns)
    texts = [text for block in samples.blocks for text in _unpack(block)]
    assert (samples.shown, samples.left_out, len(samples.blocks)) == (2 * BLOCK, 0, 2)
    named = [f"{columns['systems'][s]}{t[2:]}" for t, s in zip(columns["task"], columns["system"], strict=True)]
    assert [text["response"] for text in texts] == named
    assert named[:4] == ["a0", "b0", "a1", "b1"]
    assert columns["statuses"][:8] == [0, 0, 0, 0, 0, 0, 0, 1]
    assert [column[7] for column in columns["scores"]] == list(verdict.scores.values())
    assert texts[7]["verdicts"][0]["raw"] == verdict.raw


def test_the_limit_leaves_out_and_says_so() -> None:
    answers = {"a": {f"t-{n}": [_answer(n, "a")] for n in range(7)}}
    samples = pack_samples(Material(answers, []), [], 5)
    assert (samples.shown, samples.left_out) == (5, 2)
    assert pack_samples(Material(answers, []), [], 0).blocks == []


def test_verdicts_without_answers_are_shown_too() -> None:
    verdict = make_verdict(random.Random(0), _answer(1, "a").generation, "kullm3", "text", "m", 0.5, 0.0)
    samples = pack_samples(Material({}, [("a", verdict)]), [_judging(verdict)], 5)
    assert _unpack(samples.blocks[0])[0]["verdicts"][0]["raw"] == verdict.raw


def test_any_text_survives() -> None:
    odd = "</script>\ud800\x00\u2028 한글 \U0001f600" * 20
    answers = {"a": {"t-0": [_answer(0, "a", odd)]}}
    assert _unpack(pack_samples(Material(answers, []), [], 5).blocks[0])[0]["response"] == odd
