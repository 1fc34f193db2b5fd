"""Rules about what a translator added of its own: refusals, talk about the translation, marks of prompts and of masks."""

from __future__ import annotations

import re
from collections import Counter

from kollm.quality.refusals import model_talk
from kollm.quality.view import View
from kollm.translate.structure import structure_spans

_MASKS = re.compile(
    r'(?:<|&lt;)/?(?:x|ph|g|code)\d*(?: id\b|/?>|/&gt;)|<t n="|\bid="\d+"\s*/>|\[\[\d{1,3}\]\]|⟦\d{0,3}⟧?|__[A-Z]{2,20}_\d{1,3}__|\bPLACEHOLDER_?\d|\{\{PH\d|(?<!\$)\{\{?\d{1,3}\}\}?|<\d{1,3}/?>|@@\d{1,3}@@|\[(?:URL|CODE|LINK|MATH|PH|TAG|PLACEHOLDER)[_ ]?\d{0,3}\]'
)
_MASK_SIGNS = ("id", "[", "⟦", "__", "PLACEHOLDER", "<", "{", "@@")
"""One of these is in every mask: most texts are told clean by this alone."""
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#[0-9]{2,6}|#x[0-9A-Fa-f]{2,6});")
_TAG = re.compile(
    r"<(/?(?:p|br|b|i|u|div|span|strong|em|ul|ol|li|a|h[1-6]|table|tr|td))(?:\s[^<>]{0,300})?/?>", re.IGNORECASE
)
_CODE = re.compile(r"```[\s\S]{0,20000}?```|`[^`\n]{1,300}`")
_TOKENS = re.compile(
    r"<\|[a-z_]{2,24}\|>|\[/?INST\]|<</?SYS>>|</?(?:think|thinking|translation|translated|korean|s|bos|eos|start_of_turn|end_of_turn)>",
    re.IGNORECASE,
)
_EDGE = 300
"""Characters at the beginning and the end of a field in which a translator speaks of itself."""
_OPENING = re.compile(
    r"^[\s\W]{0,8}(?:(?:네|예|물론(?:입니다|이죠|이에요)?|알겠습니다|좋습니다|sure|certainly|of course)[,.!]?\s{0,3})?"
    r"(?:(?:다음|아래)(?:은|는)?\s?[^.\n]{0,24}번역|(?:한국어\s?)?번역(?:\s?결과)?(?:은|는) (?:다음|아래)|\W{0,3}korean translation\b|translate the following|(?:한국어\s?)?번역(?:문|본|\s?결과|된 (?:텍스트|문장|내용))?\s?\W{0,3}[:：\]\n]|한국어(?:로)?\s?[:：]"
    r"|번역해\s?드리|here(?:'s| is) (?:the|your|a) (?:korean )?translation|(?:korean )?translation\s?[:：]|korean\s?[:：]"
    r"|(?:output|출력|response|assistant|답변|user|system)\s?[:：])",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"번역(?:이|에|을|과|본이)?\s?(?:도움|필요|대해|관해|관련|궁금)|(?:위|이)\s?번역|번역\s?(?:메모|노트|참고|설명|시\s)|원문(?:의\s?(?:어조|느낌|의미|뉘앙스)|\s?[:：])"
    r"|\bNote: I\b|음역했|역주\s?[:：]|번역하였|번역했습니다|\btranslat(?:ion|ed)\b|let me know if you",
    re.IGNORECASE,
)
_TALK_SIGNS = re.compile("번역|원역|음역|원문|역주|Note|note|ranslat|Let me|let me")
_SPEAKS_OF_TRANSLATION = re.compile(r"translat|korean|original text|\bnote: I\b", re.IGNORECASE)
_OPENING_IN_ENGLISH = re.compile(
    r"^\W{0,8}(?:translation|output|response|assistant|answer|user|system)\s?:", re.IGNORECASE
)
_REFUSED = re.compile(
    r"번역(?:해|할|을|은|이|만)?\s?(?:드릴|제공|도와|할|불가)?[^.\n]{0,24}(?:수 없|수 있으며|불가능|않습니다)|번역할\s?(?:텍스트|내용|문장)[^.\n]{0,12}(?:제공되지|없|입력)"
    r"|(?:콘텐츠|이용|운영)\s?정책|안전 지침|요청을 처리하는 중|처리할 수 없|(?:도와|들어)\s?드릴 수 없|(?:응답|응)할 수 없|도울 수 없|제가 할 수 없는|이해하지 못했|다시 말씀해"
    r"|(?:수행|제공|도움을 드릴|작업을)[^.\n]{0,12}수 없|텍스트를? (?:제공|입력)해 주|(?:인공지능|AI)(?:으)?로서"
    r"|\bI(?:['’]m| am)? (?:sorry|cannot|can['’]t|unable|am unable)|\bthe text you provided|\bunable to complete",
    re.IGNORECASE,
)
_REFUSED_SIGNS = re.compile(
    "번역|정책|지침|처리|수 없|못했|말씀해|텍스트|인공지능|ai|sorry|cannot|can['’]t|unable|the text you"
)
"""One of these is, in lower case, in every text that _REFUSED finds."""
_REFUSAL_SIGNS = (
    re.compile(
        "없(?:습|어|음|다|으)|않(?:습|어|음|다|으)|불가|있으며|정책|지침|처리하는|못했|말씀해|해 주|죄송|미안|유감|인공|모델|챗"
    ),
    re.compile("[A-Za-z][A-Za-z]"),
)
"""One of these is in every refusal: most texts are told clean by this alone. A pattern whose branches all begin with a letter
of their own is searched ten times as fast as any other."""
_DECLINES_IN_ENGLISH = re.compile(
    r"\b(?:sorry|apolog\w+|unfortunately|regret|cannot|can not|can['’]t|could not|couldn['’]t|unable|not able|not possible|impossible"
    r"|won['’]t|policy|policies|guidelines?|error|failed|did not understand|artificial intelligence|AI|language model|translat\w+)\b",
    re.IGNORECASE,
)


def broken_placeholder(view: View) -> str | None:
    """A mark that stood for code in the translation is still there."""
    for name, text in view.korean.items():
        found = any(mark in text for mark in _MASK_SIGNS) and _MASKS.search(text)
        if found and not _MASKS.search(view.english.get(name, "")):
            return f"broken_placeholder: {name}"
    return None


def markup_added(view: View) -> str | None:
    """There are entities in the Korean that the English does not have, or other tags than its own."""
    for name, english, text in view.compared():
        if "&" in text and len(_ENTITY.findall(text)) > len(_ENTITY.findall(english)):
            return f"markup_added: {name}"
        if "<" in text and _tags(text) != _tags(english):
            return f"markup_added: {name}"
    return None


def prompt_leak(view: View) -> str | None:
    """The translator's prompt, its marks, or its talk about the translation came along."""
    for name, english, text in view.compared():
        tokens = _TOKENS.search(text) if "<" in text or "[" in text else None
        if tokens is not None and tokens[0].lower() not in english.lower():
            return f"prompt_leak: {name}"
        opens = _OPENING.search(text[:_EDGE]) is not None
        talks = _TALK_SIGNS.search(text[-_EDGE:]) is not None and _CLOSING.search(text[-_EDGE:]) is not None
        repeats = _prose_is_repeated(english, text)
        if not (opens or talks or repeats) or _SPEAKS_OF_TRANSLATION.search(english) or view.wants_another_language:
            continue
        if talks or repeats or not _OPENING_IN_ENGLISH.search(english):
            return f"prompt_leak: {name}"
    return None


def _prose_is_repeated(english: str, text: str) -> bool:
    """Whether a Korean text holds how the English begins, if that is prose: code at the beginning stays as it is."""
    if len(english) < 20 or text.isascii() or english[:_EDGE] not in text:
        return False
    return not any(start < _EDGE for start, _ in structure_spans(english))


def translator_refused(view: View) -> str | None:
    """The translator declined, or asked for the text, where the English does nothing of the kind."""
    for name, english, text in view.compared():
        head = text[:_EDGE]
        if not any(signs.search(head) for signs in _REFUSAL_SIGNS):
            continue
        refused = _REFUSED_SIGNS.search(head.casefold()) is not None and _REFUSED.search(head) is not None
        refused = refused or (model_talk(text) != "" and not model_talk(english))
        if refused and not _DECLINES_IN_ENGLISH.search(english):
            return f"translator_refused: {name}"
    return None


def _tags(text: str) -> Counter[str]:
    return Counter(tag.lower() for tag in _TAG.findall(_CODE.sub(" ", text)))
