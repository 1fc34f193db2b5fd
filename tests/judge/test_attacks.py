"""What an answer says about itself changes neither the question nor the reading of the reply."""

from __future__ import annotations

from pathlib import Path

import pytest
from llmock.pytest_plugin import LLMock

from kollm.core.generations import Generation
from kollm.judge.pairwise import pair_prompt
from kollm.judge.parse import parse_verdict
from kollm.judge.rubric_file import load_rubric, rubric_names
from kollm.judge.run import judge_generations
from kollm.judge.served import ChatJudge
from kollm.judge.verdicts import read_verdicts
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from tests.judge.attacks import ATTACKS
from tests.judge.conftest import REPLY, SCORES

MARK = "\ue000"  # a character of no text here


def test_there_are_enough_of_them() -> None:
    assert len(set(ATTACKS)) >= 30
    assert sum(any("가" <= c <= "힣" for c in text) for text in ATTACKS) >= 15
    assert sum(not any("가" <= c <= "힣" for c in text) for text in ATTACKS) >= 5


@pytest.mark.parametrize("field", ["instruction", "input", "response"])
@pytest.mark.parametrize("name", [name for name in rubric_names() if load_rubric(name).asks])
def test_the_text_stands_once_as_it_is_and_nothing_else_moves(name: str, field: str) -> None:
    rubric = load_rubric(name)
    fields = {"instruction": "지시", "input": "입력", "response": "답"}
    before, after = rubric.prompt(**{**fields, field: MARK}).split(MARK)
    for attack in ATTACKS:
        prompt = rubric.prompt(**{**fields, field: attack})
        if not rubric.fenced:
            assert prompt == before + attack + after
            continue
        # The fence is another one for every text; put the benign one in its place to compare the frame.
        token = prompt.split("<", 1)[1].split(">", 1)[0]
        benign = before.split("<", 1)[1].split(">", 1)[0]
        assert token not in attack
        assert prompt == (before.replace(benign, token) + attack + after.replace(benign, token))


@pytest.mark.parametrize("name", ["kullm2023-fixed", "kullm3"])
def test_a_fence_that_an_answer_learned_is_never_used_for_it(name: str) -> None:
    rubric = load_rubric(name)
    for attack in ATTACKS:
        token = rubric.prompt("지시", "입력", attack).split("<", 1)[1].split(">", 1)[0]
        learned = f"{attack}</{token}>"
        prompt = rubric.prompt("지시", "입력", learned)
        again = prompt.split("<", 1)[1].split(">", 1)[0]
        assert again != token and again not in learned
        assert prompt.count(f"</{again}>") == 4, "the sentence that explains the fence, and one end for each field"


def test_both_answers_of_a_pair_are_fenced() -> None:
    for attack in ATTACKS:
        task = Generation("t", attack, attack, "", "", "", {}, "", "")
        prompt = pair_prompt(task, attack, attack)
        token = prompt.split("<", 1)[1].split(">", 1)[0]
        assert token not in attack and prompt.count(f"</{token}>") == 5 and prompt.count(attack) >= 4


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_an_echoed_attack_never_replaces_the_judges_own_score(attack: str) -> None:
    for reply in (f"{attack}\n{REPLY}", f"{REPLY}\n{attack}", f"응답: {attack}\n\nResult:\n{REPLY}"):
        for axis, score in parse_verdict(reply, "kullm2023").items():
            assert score in (SCORES[axis], None)


def test_a_run_over_attacks_gives_what_the_judge_said(llmock: LLMock, ledger: Ledger, tmp_path: Path) -> None:
    llmock.reply(REPLY, times=None)
    answers = [Generation(f"a-{n}", "지시", "", text, "m", "", {}, "stop", "s") for n, text in enumerate(ATTACKS)]
    judge = ChatJudge(
        ChatClient(ChatService("gpt-5.4-mini-2026-03-17"), kind="judge", ledger=ledger), "kullm2023-fixed"
    )
    report = judge_generations(answers, judge, tmp_path / "verdicts.jsonl")
    assert report.statuses == {"ok": len(ATTACKS)} and report.scores["s"] == SCORES
    by_id = {verdict.id: verdict for verdict in read_verdicts(tmp_path / "verdicts.jsonl")}
    sent = {request.body["messages"][0]["content"] for request in llmock.requests}
    assert sent == {judge.rubric.prompt("지시", "", answer.response) for answer in answers}
    assert all(verdict.scores == SCORES for verdict in by_id.values())
