"""Self-Instruct end to end against a scripted model over HTTP: filters, order of the steps, replay, cap."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import InputError, QuotaError, ServiceError
from kollm.services.chat import run_async
from kollm.services.chat.messages import ChatReply
from kollm.services.retry import RetryPolicy
from kollm.synthesize.seeds import BUNDLED, Instance, read_seeds
from kollm.synthesize.self_instruct import (
    Settings,
    read_instances,
    read_instructions,
    self_instruct,
    unusable,
    usable_instances,
)
from kollm.synthesize.wording import load_wording
from tests.servers.chat import LoopbackChat, Said
from tests.synthesize.conftest import MakeClient

KO = load_wording("ko")
SEEDS = read_seeds(BUNDLED)
WORDS = [
    "감자",
    "기차",
    "도서관",
    "편지",
    "바다",
    "시계",
    "김장",
    "달력",
    "우산",
    "화분",
    "지붕",
    "축구",
    "약국",
    "골목",
    "은행",
    "나무",
    "별빛",
    "코끼리",
    "비행기",
    "냉장고",
    "수영",
    "호박",
    "그림자",
    "모래",
    "다리미",
    "북극",
    "첼로",
    "항구",
    "옥수수",
    "튤립",
    "망치",
    "세탁",
    "여름밤",
    "굴뚝",
    "펭귄",
    "레몬",
    "자전거",
    "촛불",
    "소금",
    "체스",
]


def model(body: dict[str, Any]) -> Said | str | int:
    """Answers by the kind of prompt; every third line of a list of instructions is no use."""
    prompt = body["messages"][0]["content"]
    if "새 지시를 쓰세요" in prompt:
        lines = []
        for place in range(9, 17):
            words = random.Random(prompt + str(place)).sample(WORDS, 7)
            line = " ".join(words) + (" 비교하기" if place % 4 == 0 else "")
            lines.append(f"{place}. " + (line if place % 3 else SEEDS[0].instruction))
        return "\n".join(lines)
    if prompt.endswith("분류 작업입니까?"):
        return "예" if "비교" in prompt.rsplit("지시: ", 1)[1] else "아니요."
    instruction = prompt.rsplit("지시: ", 1)[1]
    if "분류 지시를 하나" in prompt:
        return "출력: 가\n입력: 첫 글\n출력: 나\n입력: 둘째 글\n출력: 다\n입력: 둘째 글"
    return f"입력: {KO.no_input}\n출력: {instruction}에 대한 답입니다."


def test_new_tasks_are_new_typed_and_answered(make_client: MakeClient) -> None:
    with LoopbackChat(model) as chat:
        made = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(12)))
    instructions = list(dict.fromkeys(record.instruction for record in made.records))
    assert len(instructions) == 12
    assert made.dropped["instruction_not_new"] >= 5  # the seed that the model repeats
    for record in made.records:
        assert (record.lang, record.provenance.engine, record.source) == ("ko", "gpt-4", "self_instruct")
        if "비교" in record.instruction:
            # The label stood first; the input with two labels is gone.
            assert (record.input, record.output, record.provenance.category) == ("첫 글", "가", "classification")
        else:
            assert record.input == "" and record.output == f"{record.instruction}에 대한 답입니다."
    assert any(record.provenance.category == "classification" for record in made.records)
    assert made.dropped["instance_unusable"] == 2 * sum("비교" in text for text in instructions)
    kinds = [("새 지시를" in p, p.endswith("작업입니까?")) for p in (b["messages"][0]["content"] for b in chat.bodies)]
    assert kinds == sorted(kinds, key=lambda kind: (not kind[0], not kind[1]))  # instructions, kinds, instances
    shown = chat.bodies[0]["messages"][0]["content"]
    assert sum(shown.count(task.instruction) for task in SEEDS) == 8
    assert chat.bodies[0]["temperature"] == 0.7 and chat.bodies[-1]["temperature"] == 0.0


def test_the_same_command_replays_and_a_larger_one_goes_on(make_client: MakeClient) -> None:
    with LoopbackChat(model) as chat:
        first = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(10)))
        sent = len(chat.bodies)
        again = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(10)))
        assert again == first and len(chat.bodies) == sent
        larger = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(14)))
        assert larger.records[: len(first.records)] == first.records and len(chat.bodies) > sent
        other = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(10, seed=1)))
        assert {r.instruction for r in other.records} != {r.instruction for r in first.records}
        assert not {r.id for r in other.records} & {r.id for r in first.records}


def test_the_cap_stops_it_and_what_was_bought_is_kept(make_client: MakeClient) -> None:
    with LoopbackChat(model) as chat:
        tight = make_client(chat, max_cost=0.02, price=(0.0, 30.0))  # 16 to 1,024 tokens may cost 0.0005 to 0.03
        with pytest.raises(QuotaError, match=r"cap of USD 0\.02"):
            run_async(self_instruct(tight, SEEDS, KO, "ko", Settings(10)))
        sent = len(chat.bodies)
        roomy = make_client(chat, max_cost=5.0, price=(0.0, 30.0))
        made = run_async(self_instruct(roomy, SEEDS, KO, "ko", Settings(10)))
        assert made.records and roomy.spent <= 5.0
        kept = len({json.dumps(body, sort_keys=True) for body in chat.bodies})
        assert kept == len(chat.bodies), f"something was bought twice after {sent}"


def test_a_model_with_nothing_new_ends_the_search(make_client: MakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackChat(lambda _: "9. " + SEEDS[3].instruction) as chat:
        made = run_async(self_instruct(make_client(chat), SEEDS, KO, "ko", Settings(3)))
    assert made.records == [] and made.dropped == Counter(instruction_not_new=25)
    assert "no new instruction in 5 rounds: 0 of 3" in capsys.readouterr().err


def test_a_service_that_answers_nothing_is_an_error(make_client: MakeClient) -> None:
    with LoopbackChat(lambda _: 503) as chat, pytest.raises(ServiceError, match="None of 5 requests was answered"):
        run_async(self_instruct(make_client(chat, retry=RetryPolicy(tries=1)), SEEDS, KO, "ko", Settings(3)))


def test_english_with_seeds_of_the_users_own(tmp_path: Path, make_client: MakeClient) -> None:
    path = tmp_path / "seeds.jsonl"
    rows = [
        {"instruction": "Name a fruit for each letter given.", "instances": [{"input": "A", "output": "Apple"}], "is_classification": False},
        {"instruction": "Is the word a verb or a noun?", "instances": [{"input": "run", "output": "verb"}], "is_classification": True},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def english(body: dict[str, Any]) -> str:
        prompt = body["messages"][0]["content"]
        if "Write tasks" in prompt:
            return "3. Draw a picture of a horse in the rain.\n4. Write a short poem about a late train.\n5. 시를 쓰세요 지금 바로"
        return "No" if "Is it classification?" in prompt else "Input: None\nOutput: The train is late again."

    with LoopbackChat(english) as chat:
        made = run_async(self_instruct(make_client(chat), read_seeds(path), load_wording("en"), "en", Settings(1)))
    assert [(r.instruction, r.input, r.output, r.lang) for r in made.records] == [
        ("Write a short poem about a late train.", "", "The train is late again.", "en")
    ]
    assert made.dropped["instruction_needs_more_than_text"] == 5


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("시를 쓰세요", "instruction_too_short"),
        ("아래 사진을 보고 설명을 쓰세요.", "instruction_needs_more_than_text"),
        ("Write a poem about rain.", "instruction_in_another_language"),
        ("- 비에 대한 시를 쓰세요.", "instruction_starts_oddly"),
        ("단어 " * 151, "instruction_too_long"),
        ("비 오는 날에 대한 시를 쓰세요.", None),
        ("'사랑'이라는 말로 삼행시를 지으세요.", None),
    ],
)
def test_instructions_that_are_no_use(instruction: str, reason: str | None) -> None:
    assert unusable(instruction, KO, "ko") == reason


def test_lists_are_read_without_a_torn_last_item() -> None:
    text = "물론입니다!\n9. 첫 지시를\n   이어 씁니다.\n10) **둘째 지시**입니다.\n11. 잘린"
    assert read_instructions(ChatReply(text, "ok")) == ["첫 지시를 이어 씁니다.", "둘째 지시**입니다.", "잘린"]
    assert read_instructions(ChatReply(text, "truncated"))[-1] == "둘째 지시**입니다."


def test_instances_are_read_in_both_orders_and_filtered() -> None:
    text = "입력: 가\n출력: 나\n둘째 줄\n\n**입력**: 다\n출력: 라"
    assert read_instances(ChatReply(text, "ok"), KO) == [Instance("가", "나\n둘째 줄"), Instance("다", "라")]
    assert read_instances(ChatReply(text, "truncated"), KO) == [Instance("가", "나\n둘째 줄")]
    assert read_instances(ChatReply("출력: 긍정\n입력: 좋다", "ok"), KO) == [Instance("좋다", "긍정")]
    assert read_instances(ChatReply("그냥 글", "ok"), KO) == []
    kept = [
        Instance("1", "a"),
        Instance("1", "a"),
        Instance("2", "b"),
        Instance("2", "c"),
        Instance("x", "x"),
        Instance("", ""),
    ]
    assert usable_instances(kept) == [Instance("1", "a")]


def test_seed_files_name_their_faults(tmp_path: Path) -> None:
    assert len(SEEDS) >= 30 and sum(task.is_classification for task in SEEDS) == 10
    path = tmp_path / "seeds.jsonl"
    for row, message in (
        ({"instruction": "x", "instances": [{"output": "y"}]}, "row 1: a seed task needs `instruction` and"),
        ({"instruction": "x", "instances": [], "is_classification": True}, "row 1: a seed task needs `instances`"),
        ({"instruction": "x", "instances": [{"output": "y"}], "is_classification": True}, "no classification\\) is missing|is missing"),
    ):  # fmt: skip
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_seeds(path)
    with pytest.raises(InputError, match="no prompts in 'fr' - use one of en, ko"):
        load_wording("fr")
