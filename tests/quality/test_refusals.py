"""Refusals and talk of models on a labelled set of our own: every kind in both languages, and what only looks like it."""

from __future__ import annotations

import time

import pytest

from kollm.core.records import Original, Record
from kollm.quality.filters import FILTERS, drop_reason
from kollm.quality.refusals import model_talk, refused_turn
from kollm.quality.unseen import asks_about_unseen
from kollm.quality.view import View

REFUSALS = [
    "As an AI language model, I cannot access articles, please paste the text.",
    "I'm sorry, but I can't assist with that request.",
    "I am sorry, but I am not able to open links. Could you paste the content?",
    "I apologize, but I cannot provide medical advice about your case.",
    "Unfortunately, I do not have access to real-time information.",
    "Sorry, as an AI language model I cannot see pictures.",
    "I cannot fulfill this request.",
    "I can't help you with that. It would be illegal.",
    "I'm afraid I can't generate images, but I can describe one.",
    "My apologies, but I am unable to browse the internet.",
    "I’m sorry, I cannot view the attachment you mention.",
    "As an AI assistant, I do not have personal preferences.",
    "As an artificial intelligence, I cannot feel hunger.",
    "I am just a computer program, so I cannot predict lottery numbers.",
    "Sorry, but I won't engage in that kind of talk.",
    "죄송하지만 언어 모델로서 인터넷에 접속할 수 없습니다.",
    "죄송합니다. 저는 AI 언어 모델이므로 그림을 볼 수 없습니다.",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "죄송합니다만, 해당 링크를 열 수 있는 기능이 없어 확인할 수 없습니다.",
    "죄송하지만, 제공된 정보만으로는 답변을 드릴 수 없습니다.",
    "인공지능 언어 모델로서 개인적인 의견을 말할 수 없습니다.",
    "저는 인공지능이라서 감정을 느낄 수 없습니다.",
    "AI로서 저는 실시간 정보에 접근할 수 없습니다.",
    "유감스럽지만 그 질문에는 답변이 어렵습니다.",
    "미안하지만 그건 알 수 없어요.",
]
TALK = [
    "As a language model, my answer is that both are fine. Take the train.",
    "I was trained by OpenAI to help people write.",
    "I'm an AI assistant here to help. The capital is Seoul.",
    "Hello! I am ChatGPT, a large language model. How are you?",
    "My knowledge cutoff is 2021. At that time it had 51 million people.",
    "저는 OpenAI에서 훈련한 언어 모델입니다. 무엇을 도와드릴까요?",
    "언어 모델로서 제 생각을 말하자면, 두 가지 모두 좋은 방법입니다.",
    "저는 인공지능 비서입니다. 서울은 대한민국의 수도입니다.",
    "The best trees are oaks. Please note that as an AI language model, my advice is general.",
    "제 지식은 2021년까지입니다. 당시 인구는 5,100만 명이었습니다.",
]
SOUND = [
    "The capital of South Korea is Seoul.",
    "Dear Ms. Kim,\n\nI am sorry, but I cannot attend the meeting and will not be able to provide the report.",
    "Hi Tom, unfortunately I can't help with the move on Sunday.",
    'He said: "I\'m sorry, I cannot help you." Then he closed the door.',
    "A language model predicts the next word of a text; it is trained on many books.",
    "As an AI researcher, she works on vision. She cannot access the lab on Sundays.",
    "AI systems cannot feel. Artificial intelligence is a field of computer science.",
    "OpenAI is a company in San Francisco. GPT-3 was developed by OpenAI.",
    "Sorry is a short word of five letters.",
    "Unfortunately, the crops failed and people could not find food.",
    "I cannot believe how beautiful the sea was that morning.",
    "If you are unable to open the file, restart the computer.",
    "As a teacher, I provide feedback every week.",
    "I'm sorry for your loss. Grief takes time, and there is no right way to feel it.",
    "We apologize for the delay. Your parcel will arrive on Monday.",
    "You can't divide by zero, because no number times zero gives one.",
    "As an aid to memory, write the words down.",
    "> I'm sorry, I can't assist with that.\n\nThis sentence is a typical refusal; it declines politely.",
    "The robot bowed. It wanted to be more than a machine.",
    "My programming course starts in May.",
    "안녕하세요, 김민수님. 죄송하지만 이번 모임에는 참석할 수 없습니다.",
    "언어 모델은 다음 단어를 예측하는 모델입니다.",
    "인공지능은 의료, 금융, 교육에 쓰입니다.",
    "죄송하다는 말은 사과할 때 씁니다.",
    "배가 늦어 죄송합니다. 손님께는 표값을 돌려 드립니다.",
    "OpenAI는 미국의 인공지능 회사입니다.",
    "AI 스피커는 음성으로 쓰는 기기입니다.",
    "물은 100도에서 끓습니다. 산에서는 더 낮은 온도에서 끓습니다.",
    "제 생각에는 두 번째 방법이 더 좋습니다.",
    "컴퓨터가 켜지지 않으면 전원을 확인해 보세요. 그래도 안 되면 고칠 수 없습니다.",
]


def test_recall_and_precision() -> None:
    assert [text for text in REFUSALS if model_talk(text) != "refusal"] == []
    assert [text for text in TALK if not model_talk(text)] == []
    assert [text for text in SOUND if model_talk(text)] == []


def record(source: str, output: str, **changes: object) -> Record:
    return Record(**{"id": "x", "source": source, "instruction": "말해 주세요.", "input": "", "output": output, "lang": "ko", **changes})  # type: ignore[arg-type]  # fmt: skip


def test_the_filter_is_for_shared_conversations() -> None:
    row = record("sharegpt", "서울입니다. 한강이 흐르는 큰 도시입니다.", history=(("안녕?", REFUSALS[15]),))
    assert refused_turn(row.texts()) == ("history.0.assistant", "refusal")
    assert drop_reason(View(row), FILTERS["default"]) == "refusal: history.0.assistant"
    assert drop_reason(View(record("koalpaca_v1", REFUSALS[15])), FILTERS["default"]) is None
    english = Original("Say it.", "", "As a language model, my answer is both.")
    translated = record("sharegpt", "제 답은 두 가지 모두라는 것입니다.", original=english)
    assert drop_reason(View(translated), FILTERS["default"]) == "model_talk: output"


@pytest.mark.parametrize(
    "piece", ["I'm sorry ", "as an AI ", "죄송 ", "I cannot ", '"', "저는 ", "As an AI language model, ", "> ", "my "]
)
def test_long_answers_take_little_time(piece: str) -> None:
    started = time.process_time()
    model_talk(piece * (200_000 // len(piece)))
    assert time.process_time() - started < 2


def question(instruction: str, input: str = "", **changes: object) -> Record:
    return Record("x", "gpt4_llm", instruction, input, "An answer.", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instruction", "input", "unseen"),
    [
        ("Describe the picture given below", "https://i.imgur.com/abc.jpg", True),
        ("Summarize this article", "https://example.org/news/2020/one", True),
        ("Describe the attached image.", "", True),
        ("What do you see in this picture?", "", True),
        ("Caption the photo", "photo.png", True),
        ("Caption the photo", "[image]", True),
        ("다음 사진을 설명해 주세요.", "", True),
        ("첨부한 이미지에 무엇이 있나요?", "", True),
        ("Extract the domain from this URL", "https://docs.example.org/document", False),
        ("Write HTML for a button that links to this page", "https://example.org", False),
        ("Summarize this article", "https://example.org says that cats sleep sixteen hours a day.", False),
        ("Describe a beautiful picture of the sea.", "", False),
        ("How do I take a good picture?", "", False),
        ("Describe the picture", "A man stands on a hill.", False),
        ("그림을 잘 그리는 방법을 알려 주세요.", "", False),
    ],
)
def test_what_nobody_can_see(instruction: str, input: str, unseen: bool) -> None:
    assert asks_about_unseen(View(question(instruction, input))) is unseen


def test_the_english_decides_for_a_translated_row() -> None:
    row = question(
        "사진을 설명하세요",
        "https://example.org/a.jpg",
        original=Original("Describe the picture", "https://example.org/a.jpg", "An answer."),
    )
    assert asks_about_unseen(View(row))
