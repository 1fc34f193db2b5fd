"""A reply as data: what is thinking, and which object was meant."""

from __future__ import annotations

import time

import pytest

from kollm.core.replies import AMBIGUOUS, read_json_object, without_reasoning

OBJECT = '{"document": "<d>안녕</d>", "score": 4}'
VALUE = {"document": "<d>안녕</d>", "score": 4}


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"\ufeff{OBJECT}",
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```",
        f"결과는 다음과 같습니다.\n```json\n{OBJECT}\n```\n이상입니다.",
        f'<think>{{"score": 1}} 인가?</think>\n{OBJECT}',
        f'생각 {{"score": 1}}</think>{OBJECT}',
        f"<|channel|>analysis<|message|>흠<|end|><|start|>assistant<|channel|>final<|message|>{OBJECT}",
        f"답: {OBJECT} 입니다",
        f"{OBJECT}\n{OBJECT}",
        f"{{중괄호}} 와 {OBJECT}",
    ],
)
def test_the_object_is_found_wherever_it_stands(reply: str) -> None:
    assert read_json_object(reply) == VALUE


@pytest.mark.parametrize(
    "reply", ["", "점수 4", "[1, 2]", '{"score": 4} 또는 {"score": 5}', "<think>" + OBJECT, '{"score": 4', "null"]
)
def test_no_object_or_two_are_none(reply: str) -> None:
    assert read_json_object(reply) is None


def test_a_key_with_two_values_has_none() -> None:
    assert read_json_object('{"score": 4, "score": 5}') == {"score": AMBIGUOUS}
    assert read_json_object('{"score": 4, "score": 4}') == {"score": 4}
    assert read_json_object('{"score": ' + "9" * 5000 + "}") == {"score": None}


def test_thinking_is_no_part_of_the_reply() -> None:
    assert without_reasoning("<think>가</think>\n<think>나</think> 다") == "다"
    assert without_reasoning("<THINK>cut") == ""
    assert without_reasoning("앞 <think>인용</think> 뒤") == "뒤"
    assert without_reasoning("평가: <b>") == "평가: <b>"


@pytest.mark.parametrize("hostile", ["{", '{"a":', "<think>", "</", "```", "[", '{"a":{'])
def test_hostile_replies_cost_linear_time(hostile: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        read_json_object(hostile * count)
        return time.process_time() - start

    seconds(10_000)
    assert seconds(80_000) < 20 * max(seconds(20_000), 0.01)
