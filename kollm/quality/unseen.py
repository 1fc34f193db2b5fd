"""Rows that ask about a picture, a recording or a page that nobody who reads the text can see."""

from __future__ import annotations

import re

from kollm.quality.view import View

_READ = 2_000
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"']{1,2000}", re.IGNORECASE)
_FILE = re.compile(
    r"[^\s/\\]{1,100}\.(?:jpe?g|png|gif|bmp|webp|svg|mp[34]|wav|avi|mov|pdf|docx?|pptx?|xlsx?)", re.IGNORECASE
)
_ATTACHED = re.compile(
    r"[\[(<]?(?:(?:attached|insert|see)\b.{0,20}\b)?(?:image|picture|photo|video|audio|file|첨부 ?파일|이미지|사진|그림)(?: (?:attached|here|\d{1,3}))?[\])>]?",
    re.IGNORECASE,
)
_ABOUT_ADDRESSES = re.compile(
    r"\b(?:urls?|uri|domains?|subdomains?|hyperlinks?|html|links? to|short(?:en|er)|parse|regex|protocol|web ?address|e-?mail|tweet|cite|citation)\b|주소|도메인|링크를 (?:거는|만드)",
    re.IGNORECASE,
)
_PICTURES = ("image", "picture", "photo", "painting", "drawing", "figure", "chart", "graph", "diagram", "map", "screenshot", "video", "clip", "audio", "recording", "song file", "사진", "그림", "이미지", "영상", "도표", "그래프", "스크린샷")  # fmt: skip
"""One of these is in every question that speaks of something shown: most are told by this alone."""
_PICTURE = r"(?:image|picture|photo(?:graph)?|painting|drawing|figure|chart|graph|diagram|map|screenshot|video|clip|audio|recording|song file)"
_SHOWN = re.compile(
    rf"\b(?:(?:this|the|these|an?) )?(?:attached|following|given|provided|above|below) (?:\w+ )?{_PICTURE}s?\b"
    rf"|\b(?:this|the) {_PICTURE}s? (?:attached|given|shown|provided|above|below|you see)"
    rf"|\b(?:in|of|about|describe|caption|colou?ri[sz]e|look at|identify) (?:this|the) (?:image|picture|photo(?:graph)?|screenshot|video)s?\b"
    r"|(?:이|다음|아래|위|첨부(?:된|한)|주어진|제시된) ?(?:의 )?(?:사진|그림|이미지|영상|동영상|도표|그래프|스크린샷)(?:을|를|이|가|에|의|은|는| )",
    re.IGNORECASE,
)  # fmt: skip


def asks_about_unseen(view: View) -> bool:
    """Whether the row's question, in English where there is one, is about something that is not in its text.

    The input is an address or a file's name and nothing else, though the question is not about the address itself; or
    the question speaks of a picture that is given, and no text is.
    """
    asked = view.english or view.korean
    question, given = asked.get("instruction", "")[:_READ], asked.get("input", "")[:_READ].strip()
    rest = _URL.sub(" ", given).strip(" \t\n.,;:-()[]<>\"'`")
    if given and (not rest or _FILE.fullmatch(rest) or _ATTACHED.fullmatch(rest)):
        return not _ABOUT_ADDRESSES.search(question)
    return not given and not view.record.history and len(question) < 400 and _shows_something(question)


def _shows_something(question: str) -> bool:
    folded = question.casefold()
    for word in _PICTURES:  # `any` would take three times as long
        if word in folded:
            return _SHOWN.search(question) is not None
    return False
