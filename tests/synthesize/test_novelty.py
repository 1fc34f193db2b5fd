"""ROUGE-L against values worked out by hand, and against the plain dynamic programme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kollm.synthesize.novelty import InstructionPool, tokens


def rouge_l(first: str, second: str) -> float:
    pool = InstructionPool()
    pool.add(first)
    nearest = pool.nearest(second, 0.0)
    return nearest.score if nearest else 0.0


def test_tokens_are_syllables_of_hangul_and_words_of_the_rest() -> None:
    assert tokens("GPT-4로 글을 써줘!") == ["gpt", "4", "로", "글", "을", "써", "줘"]
    assert tokens("  ?! ") == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 2 * 3 / 8),  # LCS: police the gunman
        ("the cat sat on the mat", "on the mat sat the cat", 2 * 3 / 12),  # on the mat
        ("다음 글을 요약하세요", "다음 글을 번역하세요", 2 * 7 / 18),  # 다음글을하세요
        ("글을 쓰세요", "쓰세요 글을", 2 * 3 / 10),  # 쓰세요
        ("A b", "a B", 1.0),
        ("", "하나", 0.0),
        ("하나", "둘", 0.0),
    ],
)
def test_values_worked_out_by_hand(first: str, second: str, expected: float) -> None:
    assert rouge_l(first, second) == pytest.approx(expected)


@given(st.text("가나다ab ", max_size=30), st.text("가나다ab ", max_size=30))
def test_it_is_the_longest_common_subsequence(first: str, second: str) -> None:
    a, b = tokens(first), tokens(second)
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if a and b else 0.0
    assert rouge_l(first, second) == pytest.approx(expected)


def test_the_pool_finds_the_most_similar_instruction_from_a_threshold_on() -> None:
    pool = InstructionPool()
    for text in ("다음 글을 요약하세요", "영어로 편지를 쓰세요", "?"):
        pool.add(text)
    assert len(pool) == 2
    nearest = pool.nearest("아래 글을 요약하세요", 0.7)
    assert nearest is not None and nearest.text == "다음 글을 요약하세요"
    assert nearest.score == pytest.approx(2 * 7 / 18)
    assert pool.nearest("아래 글을 요약하세요", 0.8) is None
    assert pool.nearest("?", 0.0) is None
