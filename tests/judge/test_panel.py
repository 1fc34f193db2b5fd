"""Panels: means, agreement, disputed answers, self-preference; families; comparisons across judges."""

from __future__ import annotations

import numpy as np
import pytest

from kollm.core.errors import InputError
from kollm.core.verdicts import Status, Verdict
from kollm.judge.across import Drifted, refuse_across, together
from kollm.judge.bias import biases
from kollm.judge.families import family
from kollm.judge.panel import panels
from kollm.judge.scores import score_tables

SYSTEMS = ("gpt-4o", "solar", "adapter")
LIMITS = {"overall": (1.0, 5.0)}


def verdict(judge: str, system: str, task: str, score: float | None, returned: str | None = None) -> Verdict:
    status: Status = "ok" if score is not None else "parse_error"
    return Verdict(
        task, system, f"sha256:{system}{task}", "r", "sha256:r", "text", 0, judge, returned or judge, {"overall": score},
        status, "", {"cost": 0.01},
    )  # fmt: skip


def judged(*, missing: int = 0) -> list[tuple[str, Verdict]]:
    """Two judges of three systems on 40 tasks: gpt-5.5 adds a point to its own family, claude-5 is half a point milder."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        for system in SYSTEMS:
            quality = float(rng.integers(2, 5))
            own = quality + 1.0 if system == "gpt-4o" else quality
            task = f"t-{number}"
            found.append((system, verdict("gpt-5.5", system, task, own)))
            second = None if system == "solar" and number < missing else quality
            found.append((system, verdict("claude-5", system, task, second)))
    return found


def test_a_panel_is_the_mean_of_all_its_judges_and_none_where_one_is_silent() -> None:
    (panel,) = panels(score_tables(judged(missing=3)))
    one, other = (table.scores["overall"]["gpt-4o"] for table in panel.judges.values())
    assert list(panel.judges) == ["gpt-5.5", "claude-5"] and panel.table.judging.model == "gpt-5.5 + claude-5"
    assert panel.table.scores["overall"]["gpt-4o"] == {t: (one[t] + other[t]) / 2 for t in one if one[t] and other[t]}
    assert [panel.table.scores["overall"]["solar"][f"t-{n}"] for n in range(3)] == [None] * 3
    assert panel.table.costs["solar"] == pytest.approx(0.8) and panel.table.statuses["solar"]["parse_error"] == 3


def test_agreement_and_disputed_answers() -> None:
    (panel,) = panels(score_tables(judged(missing=3)))
    (found,) = panel.agreement()
    assert (found.n, found.n_some) == (117, 117)
    assert found.pairs[0].milder == pytest.approx(40 / 117)
    assert found.alpha.ci95 is not None and found.alpha.ci95.low < found.alpha.value < 1
    disputed = panel.disputed(LIMITS)
    assert len(disputed) == 20 and {row.system for row in disputed} == {"gpt-4o"}
    assert disputed[0].spread == 0.25 and set(disputed[0].scores) == {"gpt-5.5", "claude-5"}


def test_a_judge_that_favours_its_family_is_seen_by_the_others() -> None:
    (panel,) = panels(score_tables(judged()))
    (found,) = panel.self_preference({system: system for system in SYSTEMS}, LIMITS)
    assert (found.judge, found.own, found.n) == ("gpt-5.5", ("gpt-4o",), 40)
    assert found.excess == pytest.approx(1.0) and found.p_holm < 0.001


def test_one_judge_is_no_panel() -> None:
    assert panels(score_tables([row for row in judged() if row[1].model_requested == "gpt-5.5"])) == []


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("gpt-4o-2024-08-06", "OpenAI"), ("org/gpt_4_0125_preview", "OpenAI"), ("o3-mini", "OpenAI"), ("EleutherAI/gpt-neox-20b", "EleutherAI"),
        ("llama-3-Korean-Bllossom-70B", "Meta"), ("Qwen/Qwen3-8B", "Alibaba"), ("LGAI-EXAONE/K-EXAONE-236B", "LG"), ("KULLM v2", "KULLM"),
        ("skt/kogpt2-base-v2", "Kakao"), ("Mixtral-8x7B", "Mistral"), ("adapter", None), ("base", None), ("maxout", None), ("solaris", None),
    ],
)  # fmt: skip
def test_families_by_name(name: str, of: str | None) -> None:
    assert family(name) == of


def test_biases_of_one_judge() -> None:
    tables = score_tables(judged())
    lengths = {"gpt-4o": {f"t-{n}": float(100 * n) for n in range(40)}}
    rows = biases(tables[0], tables, [], lengths, {"adapter": "gpt-oss-20b"}, LIMITS)
    assert rows["own"] == ["gpt-4o", "adapter"] and len(rows["self_preference"]) == 1
    assert [row["system"] for row in rows["length"]] == ["gpt-4o"] and rows["position"] == []


def test_a_name_that_was_answered_by_two_models_is_two_judges() -> None:
    moved = [
        (s, verdict("gpt-4o", s, f"t-{n}", 3.0, f"gpt-4o-2024-0{month}"))
        for s, month in (("a", 5), ("b", 8))
        for n in range(3)
    ]
    with pytest.raises(InputError, match="'a' was judged by gpt-4o-2024-05 and 'b' by gpt-4o-2024-08"):
        refuse_across(score_tables(moved))
    refuse_across(score_tables([row for row in moved if row[0] == "a"]))


def test_a_drift_stands_between_systems_judged_before_and_after() -> None:
    tables = score_tables(judged())
    drifted = Drifted(tables[0].judging, frozenset({"solar"}), ("overall",))
    with pytest.raises(InputError, match=r"Between 'gpt-4o' and 'solar' the judge gpt-5\.5 drifted on overall"):
        refuse_across(tables, [drifted])
    refuse_across(tables, [drifted._replace(systems=frozenset(SYSTEMS))])


def test_across_judges_each_system_keeps_its_first_judge() -> None:
    rows = [
        (s, verdict(judge, s, f"t-{n}", float(n % 5 + 1))) for s, judge in (("a", "x"), ("b", "y")) for n in range(12)
    ]
    (joined,) = together(score_tables(rows))
    assert joined.judging.model == "x / y" and joined.systems == ("a", "b")
    assert len(joined.compare()) == 1
