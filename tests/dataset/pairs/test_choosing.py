"""Which answers make a pair, by scores, by doubt and by pairwise verdicts; and why a task makes none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.preferences import PairProvenance, Preference
from kollm.core.verdicts import Verdict
from kollm.dataset.pairs.choosing import Candidate, Choosing, Limits, Vote
from kollm.dataset.pairs.length import balanced, length_bias
from kollm.dataset.pairs.measure import Measure
from kollm.dataset.pairs.opinion import Opinion, agreement, verdict_chances


def answer(response: str, finish: str = "stop") -> Generation:
    return Generation("t-1", "질문", "", response, "m", "", {}, finish, "s")


def candidate(response: str, *scores: float, finish: str = "stop") -> Candidate:
    return Candidate(answer(response, finish), Opinion({str(n): score for n, score in enumerate(scores)}))


def choose(
    *candidates: Candidate, votes: dict[Any, Vote] | None = None, **limits: Any
) -> tuple[list[str], dict[str, int]]:
    choosing = Choosing(Limits(**limits), votes or {})
    pairs = list(choosing.pairs([candidates]))
    return [f"{pair.chosen.answer.response}>{pair.rejected.answer.response}" for pair in pairs], dict(choosing.left_out)


def test_the_best_and_the_worst_make_the_pair() -> None:
    three = (candidate("가", 3), candidate("나", 5), candidate("다", 1))
    assert choose(*three) == (["나>다"], {})
    assert choose(*three, take="all")[0] == ["나>다", "나>가", "가>다"]
    assert choose(*three, take="all", margin=3)[0] == ["나>다"]


@pytest.mark.parametrize(
    ("candidates", "limits", "reason"),
    [
        ((candidate("가", 3), candidate("가", 3)), {}, "one_answer"),
        ((candidate("가", 3), candidate(" ", 1)), {}, "one_answer"),
        ((candidate("가", 3), candidate("나")), {}, "unscored"),
        ((candidate("가", 3), candidate("나", 3)), {}, "tie"),
        ((candidate("가", 3), candidate("나", 2)), {"margin": 2}, "below_margin"),
        ((candidate("가", 3, 1), candidate("나", 2, 1)), {}, "judge_unsure"),
        ((candidate("가", 3, finish="length"), candidate("나", 2)), {}, "chosen_is_cut"),
        ((candidate("가나다라", 3), candidate("나", 2)), {"length_ratio": 3}, "length_ratio"),
    ],
)
def test_a_task_without_a_pair_is_counted_by_its_reason(candidates: Any, limits: Any, reason: str) -> None:
    assert choose(*candidates, **limits) == ([], {reason: 1})


def test_a_pair_beyond_a_limit_makes_way_for_the_next_best() -> None:
    assert choose(candidate("가나다라", 5), candidate("나", 1), candidate("다라", 2), length_ratio=2)[0] == [
        "가나다라>다라"
    ]


def test_pairwise_votes_alone_and_beside_scores() -> None:
    a, b = text_sha256("가"), text_sha256("나")

    def votes(vote: Vote, turned: Vote) -> dict[Any, Vote]:
        return {("t-1", a, b): vote, ("t-1", b, a): turned}

    unscored, scored = (candidate("가"), candidate("나")), (candidate("가", 2), candidate("나", 1))
    assert choose(*unscored, votes=votes("second", "first")) == (["나>가"], {})
    assert choose(*unscored, votes=votes("tie", "tie")) == ([], {"tie": 1})
    assert choose(*unscored, votes=votes("orders", "orders")) == ([], {"orders_disagree": 1})
    assert choose(*scored, votes=votes("first", "second")) == (["가>나"], {})
    assert choose(*scored, votes=votes("second", "first")) == ([], {"pairwise_judge_disagrees": 1})
    assert choose(*scored, votes=votes("orders", "orders")) == ([], {"orders_disagree": 1})


def test_agreement_of_samples_of_people_and_of_probabilities() -> None:
    def opinion(**given: float) -> Opinion:
        return Opinion(given)

    assert agreement(opinion(a=3, b=1), opinion(a=2, b=1), same_people=False) == (1 + 1 + 0 + 0.5) / 4
    assert agreement(opinion(a=3, b=1), opinion(a=2, b=1), same_people=True) == (1 + 0.5) / 2
    assert agreement(opinion(a=3), opinion(a=2), same_people=False) is None
    sure = Opinion({"0": 1.2}, {1.0: 0.8, 2.0: 0.2}), Opinion({"0": 1.5}, {1.0: 0.5, 2.0: 0.5})
    assert agreement(sure[1], sure[0], same_people=False) == pytest.approx(0.5 * 0.8 + 0.5 * (0.5 * 0.8 + 0.5 * 0.2))


def test_a_local_judges_probabilities_are_read_from_its_reply() -> None:
    verdict = Verdict("t", "s", "h", "r", "r", "local", 0, "m", "m", {"q": 1.5}, "ok", '{"q":{"1":0.2,"2":0.2}}', {})
    measure = Measure.parse("q")
    assert verdict_chances(verdict, measure) == {1.0: 0.5, 2.0: 0.5}
    served = replace(verdict, mode="logprob", raw="", usage={"chances": {"q": {"1": 0.25, "3": 0.75}}})
    assert verdict_chances(served, Measure.parse("2*q")) == {2.0: 0.25, 6.0: 0.75}
    assert verdict_chances(replace(verdict, mode="text"), measure) == {}


def test_a_weighted_sum() -> None:
    measure = Measure.parse("2*coherence + naturalness")
    assert measure.name == "2*coherence+naturalness"
    assert measure.score({"coherence": 3, "naturalness": 1, "other": None}) == 7
    assert measure.score({"coherence": 3, "naturalness": None}) is None
    assert Measure.for_axes(["a", "overall_quality"]).name == "overall_quality"
    for text in ("", "2*", "a+a", "0*a", "a b"):
        with pytest.raises(InputError, match="neither an axis nor a sum"):
            Measure.parse(text)
    with pytest.raises(InputError, match="The scores have the axes a, b - say which decides: --axis a"):
        Measure.for_axes(["a", "b"])
    with pytest.raises(InputError, match="The scores have no axis 'coherense'"):
        Measure.parse("coherense").require(["coherence"])


def preference(id: str, chosen: str, rejected: str, margin: float) -> Preference:
    return Preference(id, "s", "질문", "", chosen, rejected, provenance=PairProvenance(margin=margin))


def test_length_bias_and_pairs_without_it() -> None:
    pairs = [
        preference("1", "가나다", "가", 1),
        preference("2", "가나다", "나", 3),
        preference("3", "가", "나다", 1),
        preference("4", "가", "나", 1),
        preference("5", "가나", "다", 2),
    ]
    bias = length_bias(pairs)
    assert (bias.longer, bias.shorter, bias.equal, bias.longer_wins) == (3, 1, 1, 0.75)
    assert (bias.chosen, bias.rejected) == (2.0, 1.2)
    assert [pair.id for pair in balanced(pairs)] == ["2", "3", "4"]


@pytest.mark.parametrize(
    "limits", [{"margin": -1}, {"agreement": 0.4}, {"length_ratio": 1.0}, {"margin": float("nan")}]
)
def test_limits_that_make_no_sense(limits: Any) -> None:
    with pytest.raises(InputError, match="- give a"):
        Limits(**limits)
