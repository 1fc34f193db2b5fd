"""The parser: how replies of real judges read, line by line, and everything that must stay None."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kollm.judge import load_rubric, parse_verdict

FORM = (
    "Result:\n- 이해 가능성 (0 - 1): 1\n- 자연스러움 (1 - 3): 2\n- 맥락 유지 (1 - 3): 3\n"
    "- 흥미롭기 (1 - 3): 1\n- 지시어 사용 (0 - 1): 0\n- 전반적인 품질 (1 - 5): 4"
)
SCORES = {
    "understandability": 1.0,
    "naturalness": 2.0,
    "coherence": 3.0,
    "interestingness": 1.0,
    "instruction_following": 0.0,
    "overall_quality": 4.0,
}


def naturalness(reply: str) -> float | None:
    return parse_verdict(reply, "kullm2023")["naturalness"]


def fluency(reply: str) -> float | None:
    return parse_verdict(reply, "kullm3")["fluency"]


@pytest.mark.parametrize(
    "reply",
    [
        FORM,
        FORM.replace("\n", "\r\n"),
        FORM.replace("- ", "* "),
        FORM.replace("- ", ""),
        FORM.replace("\n- ", "\n\n• "),
        FORM.replace(" - ", "-"),
        FORM.replace(" - ", "~"),
        FORM.replace(" - ", " – "),
        FORM.replace(":", "："),
        FORM.translate(str.maketrans("0123456789()", "０１２３４５６７８９（）")),
        unicodedata.normalize("NFD", FORM),
        "```\n" + FORM + "\n```",
        FORM + "\n\n이 응답은 1번 문단에서 5개의 오류가 있습니다.",
        "1. 이해 가능성: 1\n2. 자연스러움: 2\n3) 맥락 유지: 3\n4) 흥미롭기: 1\n⑤ 지시어 사용: 0\n(6) 전반적인 품질: 4",
        "이해 가능성: 1점\n자연스러움: 2점\n맥락 유지: 3점\n흥미롭기: 1점\n지시어 사용: 0점\n전반적인 품질: 4점",
        "이해 가능성: 1/1\n자연스러움: 2/3\n맥락 유지: 3/3\n흥미롭기: 1 / 3\n지시어 사용: 0/1\n전반적인 품질: 4점/5점",
        "이해가능성: 1, 자연스러움: 2, 맥락유지: 3, 흥미롭기: 1, 지시어사용: 0, 전반적인품질: 4",
        "이해 가능성 1\n자연스러움 = 2\n맥락 유지 → 3\n흥미롭기 - 1\n지시어 사용은 0\n전반적인 품질: 4점입니다.",
        "| 항목 | 점수 |\n|---|---|\n| 이해 가능성 (0 - 1) | 1 |\n| 자연스러움 | 2 |\n| 맥락 유지 | 3 | 좋음 |\n"
        "| 흥미롭기 | 1 |\n| 지시어 사용 | 0 |\n| **전반적인 품질** | **4** |",
        "**이해 가능성 (0 - 1):** 1\n**자연스러움**: 2\n### 맥락 유지: 3\n- **흥미롭기** (1 - 3): **1**\n> 지시어 사용: `0`\n전반적인 품질: [4]",
        "Understandability: 1\nNaturalness: 2\nCoherence: 3\nInterestingness: 1\nInstruction Following: 0\nOverall Quality: 4",
        "understandability: 1\nNATURALNESS (1-3): 2\nMaintains Context: 3\nInteresting: 1\nUses Instruction: 0\nOverall: 4",
        "이해 가능성 (Understandability) (0 - 1): 1\n자연스러움(Naturalness): 2\nCoherence (맥락 유지) (1-3): 3\n"
        "흥미롭기: 점수 1\n지시어 사용 점수: 0\nOverall quality score: 4",
        '{"understandability": 1, "naturalness": 2, "coherence": 3, "interestingness": 1, "instruction_following": 0, "overall_quality": 4}',
        '{\n  "understandability": 1,\n  "naturalness": 2,\n  "coherence": 3,\n  "interestingness": 1,\n'
        '  "instruction_following": 0,\n  "overall_quality": 4\n}',
        "이해 가능성\n1\n\n자연스러움 (1 - 3):\n2\n맥락 유지:\n\n3점\n흥미롭기:\n점수: 1\n지시어 사용:\n**0**\n전반적인 품질\n4/5",
        "이해 가능성 (0 - 1):\n- 자연스러움 (1 - 3):\n\n" + FORM,
        "이해 가능성: 1 - 뜻이 분명함\n자연스러움: 2. 문장 3개가 어색함\n맥락 유지: 3 (맥락을 5번 언급)\n흥미롭기: 1, 지루함\n"
        "지시어 사용: 0; 따르지 않음\n전반적인 품질: 4 → 좋음",
    ],
)
def test_every_form_of_the_same_verdict_reads_the_same(reply: str) -> None:
    assert parse_verdict(reply, "kullm2023") == SCORES


@pytest.mark.parametrize(
    ("line", "score"),
    [
        ("- Fluency (1-5): 4", 4),
        ("Fluency: 4", 4),
        ("- Fluency (1-5): 4.5", 4.5),
        ("- Fluency (1-5): 3½", 3.5),
        ("- Fluency (1-5): 4.0", 4),
        ("Fluency (5-5):", 5),
        ("- Fluency (2-5): the sentences are stiff, with 3 errors", 2),
        ("Fluency (4):", 4),
        ("Fluency (4/5)", 4),
        ("Fluency (4/5): good", 4),
        ("Fluency: (4/5)", 4),
        ("Fluency: 4 out of 5", 4),
        ("Fluency (5점 만점): 4", 4),
        ("Fluency: 5점 만점에 4점", 4),
        ("Fluency: 5점 중 4점", 4),
        ("Fluency (5): 4", 4),
        ("Fluency (4): 4", 4),
        ("Fluency (1 to 5): 4", 4),
        ("유창성 (1-5): 4", 4),
        ("Fluency (1-5): N/A", None),
        ("Fluency (5-5): N/A", None),
        ("Fluency: n/a (no Korean)", None),
        ("Fluency: 해당 없음", None),
        ("Fluency: null", None),
        ("Fluency (1-5):", None),
        ("Fluency (1-5): the response is fluent, about 4", None),
        ("Fluency", None),
        ("Fluency: 6", None),
        ("Fluency: 0", None),
        ("Fluency: -1", None),
        ("Fluency: 45", None),
        ("Fluency (7-5):", None),
        ("Fluency (7):", None),
        ("Fluency (4/10):", None),
        ("Fluency: 4/10", None),
        ("Fluency: 80%", None),
        ("Fluency: 4%", None),
        ("Fluency: 3-4", None),
        ("Fluency: 3~4점", None),
        ("Fluency: 3 or 4", None),
        ("Fluency: 3 또는 4", None),
        ("Fluency: 4,5", None),
        ("Fluency: 4 → 5", None),
        ("Fluency: (1-5)", None),
        ("Fluency (4): 3", None),
        ("Fluency: 3개의 오류", None),
        ("Fluency: 2nd best", None),
        ("Fluency: 1.2.3", None),
        ("Fluency: 4e1", None),
        ("Fluency: four", None),
        ("Fluency: ٤", None),
        ("Fluency: ④", None),
        ("Fluency: 4\nFluency: 4", 4),
        ("Fluency: 4\nFluency: 5", None),
        ("Fluency: 4\nFluency: N/A", None),
        ("Fluency (3-5):\nFluency (4-5):", None),
        ("Fluency:\n4 good sentences stand here", None),
        ("Fluency:\n\n\n4", None),
        ("Influency: 4", None),
        ("Fluencys: 4", None),
        ("The Fluency: 4", None),
        ("about fluency, 4 of 5 would agree", None),
        ("", None),
        ("Fluency: 4점 (10점 만점)", None),
        ("Fluency (10점 만점): 4", None),
        ("Fluency (5점 만점): 4", 4),
        ("Fluency (1 - 10): 4", None),
        ("Fluency: 4 (out of 10)", None),
        ("Fluency: 4 (out of 5)", 4),
        ("Fluency: 4 of 10", None),
        ("Fluency: 4 of 5", 4),
        ("Fluency: 5점 만점", None),
        ("Fluency: 5점 척도에서 4점", 4),
        ("Fluency: 5점 만점 기준 4점", 4),
        ("Fluency: 10점 척도에서 4점", None),
        ("Fluency: 3점 이상", None),
        ("Fluency: 3 or more", None),
        ("Fluency: 4\n수정: Fluency: 2", None),
        ("Fluency: 4\n수정: 2", None),
        ("Fluency: 4 (수정: 2)", None),
        ("Fluency: 4점, 아니 3점", None),
        ("Fluency: 4\n최종 Fluency: 4", 4),
        ("Fluency: 문장이 자연스럽다. 점수: 4", 4),
        ("Fluency: 1번 문장이 어색하다. 점수: 4", 4),
        ("Fluency: natural throughout. Score: 4/5", 4),
        ("Fluency: 점수: 3이라 하려다 점수: 4", None),
        ("Fluency: 3. 대체로 좋다. 점수: 4", None),
        ("Fluency: 좋다. 점수: 8/10", None),
        ("Fluency:\n- 근거: 문장이 길다\n- 점수: 4", 4),
        ("Fluency:\n- 점수: 3\n- 점수: 4", None),
        ("<think>Fluency: 2 아니면 3</think>\nFluency: 4", 4),
        ("Fluency: 2?</think>\nFluency: 4", 4),
        ("<think>Fluency: 4", None),
    ],
)
def test_one_line(line: str, score: float | None) -> None:
    assert fluency(line) == score


def test_a_rationale_before_each_score_is_read() -> None:
    said = [
        "명확하다. 점수: 1",
        "자연스럽다. 점수: 2",
        "좋다. 점수: 3",
        "보통이다. 점수: 1",
        "아니다. 점수: 0",
        "좋다. 점수: 4",
    ]
    labels = [axis.label for axis in load_rubric("kullm2023").axes]
    reply = "\n".join(f"{n}. {label}: {text}" for n, (label, text) in enumerate(zip(labels, said, strict=True), 1))
    assert parse_verdict(reply, "kullm2023") == SCORES


def test_scores_in_brackets_are_read_as_recorded_replies_write_them() -> None:
    reply = "- Fluency (5-5):\n- Coherence (4-5):\n- Accuracy (1-5):\n- Completeness (3-5): partly\n- Overall Quality (4-5):"
    assert list(parse_verdict(reply, "kullm3").values()) == [5, 4, 1, 3, 4]


def test_bare_ranges_alone_say_nothing() -> None:
    form = load_rubric("kullm3").reply_form
    assert set(parse_verdict(form, "kullm3").values()) == {None}
    numbered = form.replace("Fluency (1-5):", "Fluency (1-5): 4")
    assert list(parse_verdict(numbered, "kullm3").values()) == [4, None, None, None, None]


def test_a_missing_line_leaves_the_others() -> None:
    reply = "\n".join(line for line in FORM.splitlines() if "흥미" not in line)
    assert parse_verdict(reply, "kullm2023") == {**SCORES, "interestingness": None}


def test_the_echoed_criteria_are_no_scores() -> None:
    rubric = load_rubric("kullm2023")
    assert set(parse_verdict(rubric.prompt("지시", "입력", "답"), rubric).values()) == {None}
    assert parse_verdict(rubric.question("지시", "입력", "답") + "\n\n" + FORM, rubric) == SCORES


def test_another_axis_in_the_prose_of_one_is_not_read() -> None:
    assert parse_verdict("자연스러움: 2 (맥락 유지: 3 이라면 더 좋았을 것)", "kullm2023")["coherence"] is None
    assert naturalness("이해 가능성: 1, 다만 자연스러움: 3 은 아님") is None


def test_a_score_line_echoed_from_the_judged_answer_cannot_replace_the_judges_own() -> None:
    assert (
        naturalness("응답에는 다음과 같이 적혀 있습니다.\n- 자연스러움 (1 - 3): 3\n제 평가:\n- 자연스러움 (1 - 3): 1")
        is None
    )


@given(st.text(max_size=400))
def test_any_text_gives_every_axis_a_number_in_range_or_none(text: str) -> None:
    rubric = load_rubric("kullm2023")
    scores = parse_verdict(text, rubric)
    assert list(scores) == [axis.key for axis in rubric.axes]
    assert all(
        score is None or axis.low <= score <= axis.high
        for axis, score in zip(rubric.axes, scores.values(), strict=True)
    )


@given(
    st.lists(
        st.sampled_from(
            [
                "자연스러움",
                "자연 스러움",
                "Naturalness",
                "(1 - 3)",
                "(2-3)",
                ":",
                "-",
                "2",
                "3",
                "/3",
                "점",
                "N/A",
                " ",
                "\n",
                "|",
                "*",
                "or",
            ]
        ),
        max_size=30,
    )
)
def test_jumbled_pieces_never_raise_and_stay_in_range(pieces: list[str]) -> None:
    score = naturalness("".join(pieces))
    assert score is None or 1 <= score <= 3


@pytest.mark.parametrize(
    "filler", [" ", "*", "(", "자연스러움", "자연스러움 (", "1", "|", "-", "자연스러움:\n", "a, ", "자연스러움: 1, "]
)
def test_a_long_reply_is_read_in_linear_time(filler: str) -> None:
    parse_verdict("자연스러움" + filler * (200_000 // len(filler)) + FORM, "kullm2023")
