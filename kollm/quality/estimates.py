"""What can only be estimated about a translation: a flag with a score, for the counts of a card and for the review.

Nothing is dropped for it. A score is between 0 and 1; from FLAGGED on the row is counted and shown.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from kollm.quality.completeness import LONG_ENOUGH
from kollm.quality.numbers import missing_numbers, numbers_of
from kollm.quality.view import View

Kind = Literal["answered", "doubtful"]
FLAGGED = 0.5

READ = 2000
_NUMBER = re.compile(r"\d+")
_WORDS = 60
_ASKS_IN_KOREAN = re.compile(
    r"[?？]|까\b|나요|는지|는가|인가|무엇|무슨|어떻게|어디|누구|언제|왜\b|얼마|어느|어떤|몇|알려|설명|말해|말하|답하|주세요|주십시오"
)
_SHARED, _SHARED_IN_ENGLISH = 0.7, 0.4
"""Share of an instruction's words that its answer repeats: of real rows few reach the second, in Korean or English."""
SHORTEST, LONGEST = 0.22, 1.2
"""Korean characters for one of English, outside of which a field of LONG_ENOUGH characters is doubtful."""


class Estimate(NamedTuple):
    """How likely something is wrong with a row.

    Attributes:
        kind: `answered` or `doubtful`.
        field: the field that gave it away.
        score: between 0 and 1.
    """

    kind: Kind
    field: str
    score: float


def estimates(view: View, sure: bool = False) -> list[Estimate]:
    """The estimates of a row that reach FLAGGED; of one that is `sure` not to be doubtful, the other alone."""
    found = (answered(view),) if sure else (answered(view), doubtful(view))
    return [estimate for estimate in found if estimate.score >= FLAGGED]


def answered(view: View) -> Estimate:
    """How likely the translator carried an instruction out instead of translating it.

    Either the Korean instruction repeats its answer, though the English one does not, or the English asks a question and
    the Korean none. DeepL writes imperatives as statements (`작성합니다`), so that a statement alone says nothing.
    """
    worst = Estimate("answered", "instruction", 0.0)
    for name, english, text in view.compared():
        if name != "instruction" and not name.endswith(".user"):
            continue
        asks = english[:READ].rstrip().endswith("?")
        score = 0.7 if asks and not _ASKS_IN_KOREAN.search(text[:READ]) else 0.0
        if name == "instruction":
            answer, english_answer = view.korean.get("output", ""), view.english.get("output", "")
            told = _may_share(text, answer, _SHARED) and _shared(text, answer) > _SHARED
            score = 0.95 if told and _shared(english, english_answer) < _SHARED_IN_ENGLISH else score
        if score > worst.score:
            worst = Estimate("answered", name, score)
    return worst


def doubtful(view: View) -> Estimate:
    """How likely a field says something else than its English: unusual length, or numbers that are not there again."""
    worst = Estimate("doubtful", "output", 0.0)
    for name, english, text in view.compared():
        if len(english) < LONG_ENOUGH:
            continue
        score = 0.0 if SHORTEST <= len(text) / len(english) <= LONGEST else 0.6
        whole = len(english) <= READ
        wanted = len(view.digits(name) if whole else _NUMBER.findall(english[:READ]))
        if wanted >= 2:
            missing = numbers_of(view, name) if whole else missing_numbers(english[:READ], text)
            score = max(score, min(1.0, 1.5 * len(missing) / wanted))
        if score > worst.score:
            worst = Estimate("doubtful", name, round(score, 2))
    return worst


def _shared(question: str, answer: str) -> float:
    """Share of the first words of a question, three or more, that its answer holds; 0.0 for shorter ones."""
    words = question[:READ].split()[:_WORDS]
    if len(words) < 3:
        return 0.0
    known = set(answer.split())
    return sum([word in known for word in words]) / len(words)


def _may_share(question: str, answer: str, share: float) -> bool:
    """Whether `_shared` may be more than a share; few words of most questions stand in the answer, even as parts of others."""
    words = question[:READ].split()[:_WORDS]
    missed, most = 0, (1 - share) * len(words)
    for word in words:
        missed += word not in answer
        if missed > most:
            return False
    return len(words) >= 3
