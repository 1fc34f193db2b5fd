"""Answers in which a model speaks of itself or declines: "As an AI language model, I cannot ...", 죄송하지만 언어 모델로서 ...

Told from the answer alone, in English and Korean. What a person might say in a letter, a story or a play is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Talk = Literal["", "refusal", "model_talk"]

CONVERSATIONS = frozenset({"sharegpt", "sharegpt_ko"})
"""Sources whose answers are those of a chat model as people shared them."""
_READ = 20_000
_SELF = re.compile(
    r"(?=[aim인대거자언챗저제])(?:"  # how all below begin: six times as fast
    r"\bas an? (?:large |helpful |virtual |digital )?(?:AI|artificial intelligence|machine learning)(?:[- ](?:powered|based))?"
    r"(?: (?:language|text)[- ]?(?:based )?)?(?: ?(?:model|assistant|chat ?bot|system|program))?(?= ?(?:,|\(|I\b|my\b|it is not|developed|created|trained|without))"
    r"|\bas a (?:large |text-based )?(?:language model|chat ?bot|virtual assistant|text-based AI)\b"
    r"|\bI(?:['’]m| am) (?:just |only |merely |simply |actually )?an? (?:large )?(?:AI|artificial intelligence|language model|chat ?bot|computer program|virtual assistant|machine)\b"
    r"|\bI(?:['’]m| am) ChatGPT\b|\bas ChatGPT\b|\bI\b[^.!?\n]{0,60}?\b(?:trained|developed|created|made|built) by OpenAI\b"
    r"|\bmy (?:knowledge cut-?off|training data (?:only|ends|goes|is|was|does)|last (?:knowledge )?update|programming (?:does|prohibits|guidelines))\b"
    r"|\bI (?:do not|don['’]t) have (?:personal (?:opinions|experiences|beliefs|feelings|preferences|emotions)|feelings or|the ability to (?:browse|access|see|feel))"
    r"|(?:(?:AI|인공 ?지능|대규모|거대|자연어) ?)?(?:언어|대화형?|챗봇) ?(?:모델|AI|인공지능)(?:로서|이므로|이기 ?때문|이라서?|로 ?훈련|인 ?저)"
    r"|(?:AI|인공 ?지능)(?: ?(?:언어 ?모델|비서|어시스턴트|챗봇|모델|프로그램))?(?:로서|으로서|이므로|이기 ?때문에|이라서)[ ,]"
    r"|저는 (?:단지 |그저 |그냥 )?(?:OpenAI|오픈AI|AI|인공 ?지능|언어 ?모델|챗 ?GPT|챗봇)"
    r"|저는 [^.!?\n]{0,40}?(?:OpenAI|오픈AI)(?:가|에서|에 의해)|제 (?:지식|학습 데이터)(?:은|는|의)? ?(?:마지막|최신|컷오프|20\d\d년))",
    re.IGNORECASE,
)
_DECLINE = re.compile(
    r"(?:(?:I(?:['’]m| am)|we(?:['’]re| are)) (?:very |really |so |truly )?(?:sorry|afraid)|(?:my )?apologies|I apologi[sz]e|unfortunately|sorry)"
    r"[^.!?\n]{0,80}?\b(?:I|we)(?: am|['’]m)? ?(?:can(?:no|['’])?t|cannot|unable to|not able to|not (?:allowed|permitted|authorized|programmed) to|won['’]t|will not|do(?: not|n['’]t) have (?:the ability|access|enough|any information))"
    r"[^.!?\n]{0,40}?\b(?:assist|help|provide|fulfil|comply|generate|creat|produc|writ|access|brows|open|view|see|watch|listen|continu|answer|engag|discuss|support|offer|predict|complet|information|perform|display|draw|recommend|images?|links?|real-time)"
    r"|^(?:I (?:can(?:no|['’])?t|cannot|am unable to|am not able to|will not|won['’]t) (?:\w+ ){0,2}?(?:assist|help you|provide|fulfil|comply|generate|create|engage|access|browse|view|open|see (?:the|any) (?:image|picture|link|attachment|file))\w*)"
    r"|^(?:죄송|미안|유감)[^.!?\n]{0,100}?(?:할 수 ?(?:가 )?없|드릴 수 ?(?:가 )?없|볼 수 ?(?:가 )?없|어렵(?:습니다|네요)|불가능|이해하지 못|알 수 ?없|접근할 수|도와\s?드릴 수)"
    r"|^(?:저는 |제가 )?[^.!?\n]{0,60}?(?:제공|생성|작성|수행|도움|접근|열람|답변|확인)(?:을|를|이|해)? ?(?:드릴|할|줄) 수 없(?:습니다|어요|네요)",
    re.IGNORECASE,
)
_UNABLE = re.compile(
    r"\b(?:can(?:no|['’])?t|cannot|unable|not able|not capable|do(?: not|n['’]t) have|do(?: not|n['’]t) possess)\b|수 ?(?:가 )?없|않습니다|어렵습니다",
    re.IGNORECASE,
)
_SELF_SIGNS = re.compile(
    "ai|artificial|machine|language|chat|virtual|computer|knowledge|training|update|programming|personal|feelings|ability"
    "|언어|대화|챗|인공|지식|학습"
)
_DECLINE_SIGNS = re.compile("sorry|afraid|apolog|unfortunately|i can|i am|i will|i won|죄송|미안|유감|없")
"""One of these is in every text, in lower case, that _SELF or _DECLINE finds: most are told by this alone, at a tenth of the cost."""
_HEAD = 250
"""Characters of an answer in which it would decline."""
_QUOTES = re.compile(r'"[^"\n]{0,400}"|“[^”\n]{0,400}”|「[^」\n]{0,400}」|^>.*$|```[\s\S]{0,20000}?```', re.MULTILINE)
_QUOTE_MARKS = ('"', "“", "「", ">", "```")
_LETTER = re.compile(r"^\s*(?:dear|hi|hello|subject:|to:|안녕하세요,? [가-힣]+(?:님|씨)|친애하는|제목:)", re.IGNORECASE)


def model_talk(answer: str) -> Talk:
    """What kind of talk of a model an answer is: it declines, it speaks of itself and answers, or neither."""
    text = answer[:_READ]
    if any(mark in text for mark in _QUOTE_MARKS):
        text = _QUOTES.sub(" ", text)
    text = text.strip()
    head = text[:_HEAD]
    speaks = _SELF_SIGNS.search(text.casefold()) is not None and _SELF.search(text) is not None
    if not speaks and _LETTER.match(text):
        return ""
    declines = _DECLINE_SIGNS.search(head.casefold()) is not None and _DECLINE.search(head) is not None
    if declines or (speaks and _UNABLE.search(head)):
        return "refusal"
    return "model_talk" if speaks else ""


def refused_turn(texts: Mapping[str, str]) -> tuple[str, Talk]:
    """The first answer among a record's texts that is such talk, by its name, and the kind; empty for none."""
    for name, text in texts.items():
        if (name == "output" or name.endswith(".assistant")) and (kind := model_talk(text)):
            return name, kind
    return "", ""
