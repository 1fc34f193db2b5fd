"""Each flag on its own, together, and on what must not earn one."""

import pytest

from kollm.quality.flags import FLAGS, answer_flags, repeated_share

SOUND = "서울은 대한민국의 수도이며, 한강을 끼고 발달한 도시입니다. 인구는 약 940만 명이고 25개의 자치구로 이루어져 있습니다."


@pytest.mark.parametrize(
    ("response", "finish_reason", "flags"),
    [
        (SOUND, "stop", ()),
        (SOUND, "length", ("truncated",)),
        ("", "stop", ("empty",)),
        (" \n\t　", "length", ("empty", "truncated")),
        ("Seoul is the capital of Korea.", "stop", ("no_hangul",)),
        ("42", "stop", ("no_hangul",)),
        ("日本の首都は東京です。", "stop", ("no_hangul",)),
        ("ㅋㅋ", "stop", ()),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "stop", ()),  # 한글 decomposed (NFD)
        ("\uffa1", "stop", ()),
        ("저는 학생입니다. " * 12, "length", ("truncated", "repetition")),
        ("하" * 60, "stop", ("repetition",)),
        ("I am sorry. " * 20, "stop", ("no_hangul", "repetition")),
        ("하" * 20, "stop", ()),
    ],
)
def test_flags(response: str, finish_reason: str, flags: tuple[str, ...]) -> None:
    assert answer_flags(response, finish_reason) == flags
    assert set(flags) <= set(FLAGS)


def test_a_loop_at_the_end_counts_once_it_outweighs_what_came_before() -> None:
    tail = "그래서 저는 그렇게 생각합니다. "
    assert "repetition" not in answer_flags(SOUND + tail * 2, "stop")
    assert "repetition" in answer_flags(SOUND + tail * 8, "stop")


def test_tables_rules_and_counting_are_no_repetition() -> None:
    table = "| 이름 | 나이 |\n|------|------|\n" + "".join(f"| 사람{n} | {n * 7 % 90} |\n" for n in range(30))
    counting = ", ".join(str(n) for n in range(1, 120)) + " 까지 세었습니다."
    assert repeated_share(table) < 0.4
    assert repeated_share(counting) < 0.1
    assert repeated_share("─" * 500) == 0.0


def test_share_of_a_text_said_twice_and_three_times() -> None:
    once = "".join(chr(0xAC00 + 7919 * n % 11172) for n in range(400))
    assert repeated_share(once) == 0.0
    assert repeated_share(once * 2) == pytest.approx(0.5, abs=0.02)
    assert repeated_share(once * 3) == pytest.approx(0.67, abs=0.02)


def test_lone_surrogates_and_great_length_are_taken() -> None:
    assert answer_flags("\ud800 안녕", "stop") == ()
    assert answer_flags("가나다라마바사아자차카타파하 " * 100_000, "length") == ("truncated", "repetition")
