"""Plans against statsmodels, and that they hold in simulation."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.power import TTestPower

from kollm.core.errors import InputError
from kollm.judge.design import Assumed, plan_rows, tasks_needed


@pytest.mark.parametrize(("difference", "power"), [(0.2, 0.8), (0.5, 0.9), (0.1, 0.8)])
def test_tasks_agree_with_statsmodels(difference: float, power: float) -> None:
    theirs = TTestPower().solve_power(effect_size=difference / 1.3, alpha=0.05, power=power)
    assert tasks_needed(difference, 1.3, power, 0.05) == math.ceil(theirs)


def test_samples_take_away_the_noise_of_verdicts_alone() -> None:
    one, two, four = plan_rows(Assumed(1.3, 0.6, 0.01), difference=0.2)
    assert one.tasks > two.tasks > four.tasks > one.tasks * 0.5
    assert two.verdicts == 4 * two.tasks and two.cost == pytest.approx(0.01 * two.verdicts)
    assert len(list(plan_rows(Assumed(1.3), difference=0.2))) == 1
    (corrected,) = plan_rows(Assumed(1.3), difference=0.2, comparisons=6)
    assert corrected.tasks > one.tasks


def test_what_no_set_could_show() -> None:
    with pytest.raises(InputError, match="takes more than 1,000,000 tasks"):
        tasks_needed(1e-5, 1.0, 0.8, 0.05)
