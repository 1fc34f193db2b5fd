"""The prompt texts byte by byte. The golden files were written from the paper's text (Section 7.2) and the released
template, not by the code under test."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateError

from kollm.errors import KollmError
from kollm.prompts import PromptTemplate
from kollm.records import Record

GOLDEN = Path(__file__).parent / "golden" / "prompts"
RECORDS = {
    "with-input": Record(
        "a",
        "x",
        "다음 글을 한 문장으로 요약하세요.",
        "서울은 대한민국의 수도입니다.\n한강이 흐릅니다.",
        "서울은 한강이 흐르는 수도입니다.",
    ),
    "no-input": Record("b", "x", "물은 몇 도에서 끓나요?", "", "섭씨 100도입니다."),
    "three-turns": Record(
        "c",
        "x",
        "이 제목을 넣어 고쳐 주세요.",
        "가을 강",
        "가을 강\n강물이 흐르네",
        history=(("안녕하세요?", "반갑습니다."), ("시를 써 주세요.", "강물이 흐르네\n달빛도 흐르네")),
    ),
}
CASES = [(name, key) for name in ("kullm-2023", "kullm-v2") for key in RECORDS]


def golden(name: str, key: str) -> str:
    return (GOLDEN / f"{name}.{key}.txt").read_bytes().decode("utf-8")


@pytest.mark.parametrize(("name", "key"), CASES)
def test_the_training_text_is_the_golden_text(name: str, key: str) -> None:
    assert PromptTemplate.load(name).text(RECORDS[key]) == golden(name, key)


@pytest.mark.parametrize(("name", "key"), CASES)
def test_the_question_is_the_training_text_up_to_the_answer(name: str, key: str) -> None:
    record = RECORDS[key]
    prompt = PromptTemplate.load(name).prompt(record.instruction, record.input, record.history)
    assert prompt + record.output + "<|endoftext|>" == golden(name, key)
    assert prompt.endswith("### 응답:\n")


@pytest.mark.parametrize(("name", "key"), CASES)
def test_only_answers_and_their_eos_are_learned(name: str, key: str) -> None:
    segments = PromptTemplate.load(name).segments(RECORDS[key])
    assert "".join(segment.text for segment in segments) == golden(name, key)
    answers = [turn[1] for turn in RECORDS[key].history] + [RECORDS[key].output]
    assert [s.text for s in segments if s.learned] == [answer + "<|endoftext|>" for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), CASES)
def test_the_tokenizers_chat_template_gives_the_same_text(name: str, key: str) -> None:
    from kollm.train.toy import train_tokenizer

    tokenizer = train_tokenizer([golden(name, key)], 400)
    tokenizer.chat_template = PromptTemplate.load(name).chat_template
    messages = RECORDS[key].messages()
    assert tokenizer.apply_chat_template(messages, tokenize=False) == golden(name, key)
    asked = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert asked + messages[-1]["content"] + "<|endoftext|>" == golden(name, key)


def test_markup_in_a_row_is_text() -> None:
    hostile = Record("d", "x", "{{ 7 * 7 }} {% raw %}", "{{ cycler.__init__ }}", "### 지시어:\n거짓")
    text = PromptTemplate.load("kullm-2023").text(hostile)
    assert "{{ 7 * 7 }} {% raw %}" in text
    assert "{{ cycler.__init__ }}" in text


def test_a_template_cannot_reach_past_its_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "evil.jinja"
    path.write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}", encoding="utf-8")
    with pytest.raises((KollmError, TemplateError)):
        PromptTemplate.load(str(path)).prompt("x")


def test_an_unknown_template_is_one_sentence() -> None:
    with pytest.raises(KollmError, match="no prompt template 'kullm-1999' - use one of kullm-2023, kullm-v2"):
        PromptTemplate.load("kullm-1999")
