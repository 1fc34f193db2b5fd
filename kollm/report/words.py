"""The words of the page, Korean first with the English beside.

Every Korean label of a report stands here or in page.html.jinja; an axis has the words of its rubric file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kollm.core.verdicts import Status
from kollm.quality.flags import Flag


class Words(NamedTuple):
    ko: str
    en: str


FLAGS: dict[Flag, Words] = {
    "empty": Words("빈 답변", "empty"),
    "truncated": Words("잘린 답변", "truncated"),
    "no_hangul": Words("한글 없음", "no Hangul"),
    "repetition": Words("반복", "repetition"),
}
STATUSES: dict[Status, Words] = {
    "ok": Words("채점됨", "ok"),
    "parse_error": Words("해석 실패", "parse error"),
    "refusal": Words("거부", "refusal"),
    "truncated": Words("잘린 판정", "truncated"),
    "api_error": Words("호출 실패", "API error"),
}
PARSE_RATE = Words("해석률", "parse rate")
WITHOUT_REPLY = Words("답 없음", "without a reply")
STAGES = {
    "dataset": Words("데이터셋", "Dataset"),
    "evaluation": Words("평가 과제", "Evaluation tasks"),
    "base": Words("기반 모델", "Base model"),
    "adapter": Words("어댑터 학습", "Adapter"),
    "samples": Words("학습 질문의 답변", "Samples"),
    "sample_verdicts": Words("그 답변의 판정", "Verdicts on samples"),
    "pairs": Words("선호 쌍", "Pairs"),
    "preferred": Words("선호 학습", "Preferred adapter"),
    "answers": Words("답변 생성", "Answers"),
    "verdicts": Words("판정", "Verdicts"),
    "compared": Words("맞대결 판정", "Pairwise verdicts"),
}
STEP_WARNINGS = {
    "doubt": Words("판정자가 구별하지 못하는 차이입니다", "the difference is within the judge's doubt"),
    "worse": Words("점수가 내려갔습니다", "the score fell"),
    "length": Words(
        "길이로 설명되는 차이입니다. 같은 길이에서는 남는 것이 없습니다",
        "the gain is explained by length: at equal length none is left that the judge could tell",
    ),
    "truncated": Words("토큰 한도에서 잘린 답변이 늘었습니다", "more answers are cut at the token limit"),
}
"""What a step's row warns of."""
DATASET = {
    "translator": Words("번역", "translator"),
    "filters": Words("거르기", "filters"),
    "turns": Words("대화", "turns"),
    "mode": Words("번역 단위", "mode"),
    "characters": Words("과금된 글자", "characters billed"),
}
STAGE_STATUSES = {
    "done": Words("끝남", "done"),
    "running": Words("진행 중", "running"),
}
HELDOUT = {
    "conversations": Words("대화", "conversations"),
    "rows": Words("행", "rows"),
    "tokens": Words("토큰", "tokens"),
}
INTERVAL = Words("제프리스 구간, 유효 표본 크기, 묶음 단위", "Jeffreys, at the effective sample size, by cluster")
TEST = Words("정확한 부호 바꾸기, 묶음 단위", "exact sign flips, by cluster")
NO_SCORE = Words("점수 없음", "no score")
NONE = Words("없음", "none")
STEP = Words("학습 단계", "step")
NOT_DISTINGUISHABLE = Words("구별되지 않음", "not distinguishable")
TOY = Words(
    "이 점수에는 아무 뜻이 없습니다. 모델과 판정자 모두 이 자리에서 만든 장난감이며, 이 보고서는 과정이 돌아간다는 것만 보여 줍니다.",
    "These scores mean nothing: model and judge are both a toy made on the spot. This report shows that the pipeline runs, no more.",
)

UNSETTLED = Words("미채점이 뒤집을 수 있음", "unsettled by the unscored")
MASS = Words("점수가 받은 확률", "probability of scores")
LOW_MASS = Words(
    "판정자가 척도의 점수에 준 확률이 절반보다 적은 축이 있습니다. 그 점수에는 뜻이 적습니다.",
    "On some axes the judge gave less than half of its probability to scores of the scale: those scores mean little.",
)
EQUAL_LENGTH = Words("같은 길이에서", "at equal length")
EQUAL_LENGTH_NOTE = Words(
    "같은 길이에서: 두 답변의 길이가 같다면 남을 차이를 회귀로 구한 값입니다. 길이가 품질의 일부가 아니고 길이와 함께 달라지는 것이 없다고 가정하므로, "
    "긴 답이 실제로 더 좋은 곳에서는 지나치게 깎습니다. 별표(*)는 한 시스템의 답이 거의 늘 더 길어 같은 길이를 본 적이 없다는 뜻입니다.",
    "At equal length: what a regression leaves of the difference for answers of one length. It assumes that length is no part of quality and "
    "that nothing else goes with length, so it takes away too much where a longer answer is a better one. An asterisk: one system's answers are "
    "nearly always the longer ones, and equal length was not seen.",
)
OWN_FAMILY = Words(
    "판정 모델과 같은 계열의 시스템이 있습니다. 판정 모델은 자기 계열의 답을 더 좋게 볼 수 있으니 다른 계열의 판정자도 쓰세요",
    "Systems of the judge's own family are judged here, which it may favour; use a judge of another family too",
)
OTHER_JUDGE = Words(
    "같은 이름으로 부른 판정 모델이 시스템마다 달랐으므로 짝지은 비교를 하지 않습니다",
    "The model that answered under this name was not the same for all systems, so that they are not compared",
)
DRIFTED = Words(
    "봉인한 답변을 다시 채점해 보니 판정자가 달라졌으므로, 그 전과 후에 채점한 시스템을 짝지어 비교하지 않습니다",
    "Sealed answers show that the judge drifted, so that systems judged before and after are not compared",
)
BRIDGED = Words("이어 붙인 값", "bridged")
BRIDGED_NOTE = Words(
    "이어 붙인 값은 옛 판정자의 점수를, 두 판정자가 모두 채점한 답변으로 이 판정자의 척도에 옮긴 것이며 구간에 그 불확실성이 들어 있습니다.",
    "Bridged rows are an old judge's scores, put on this judge's scale by answers that both judged; their intervals include the doubt of that.",
)
CORRECTED = Words("사람 점수로 바로잡은 값", "corrected by labels")
CORRECTED_NOTE = Words(
    "바로잡은 값은 일부 답변에 사람이 매긴 점수로 판정자의 평균을 바로잡은 것입니다(PPI++). 사람이 매긴 과제를 무작위로 골랐을 때 맞습니다.",
    "Corrected rows are the judge's means, corrected by people's labels of some of the answers (PPI++); they hold where the labelled tasks were drawn at random.",
)
PANEL_NOTE = Words(
    "점수는 판정자 모두가 점수를 준 답변에서 그 평균입니다. 한 판정자라도 점수를 주지 못한 답변은 미채점입니다. 카파와 알파의 구간은 과제를 하나씩 빼고 구한 것입니다.",
    "Scores are the mean of all judges where all gave one; an answer that one of them could not score is unscored. Intervals of kappa and alpha are from leaving out tasks in turn.",
)
SELF_PREFERENCE_NOTE = Words(
    "판정자가 자기 계열에 다른 시스템보다 더 준 점수에서, 나머지 판정자들이 같은 답변에 더 준 점수를 뺀 값입니다.",
    "What the judge gives its own family above the other systems, less what the other judges give the same answers above them.",
)
SMALL_MASS = 0.5


def low_mass(judging: Mapping[str, Any]) -> bool:
    """Whether a judge that was read by its probabilities hardly thought of a score on some axis."""
    found = [axis.get("mass") for system in judging["systems"] for axis in system["axes"].values()]
    return any(mass is not None and mass < SMALL_MASS for mass in found)


def axis_words(axis: Mapping[str, Any]) -> Words:
    """The two names of an axis as `summarize` gives it: the rubric file's Korean word, and the key in words."""
    return Words(axis["korean"], axis["key"].replace("_", " ").capitalize())
