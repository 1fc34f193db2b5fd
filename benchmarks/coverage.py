"""Do intervals of judges hold what they promise? Simulated coverage of corrections, agreement, bridges, and alarms of drift.

    python benchmarks/coverage.py

Scores on five points; each line is so many simulated studies, and the share of 95 % intervals that hold the true value.
"""

from __future__ import annotations

import numpy as np

from kollm.core.verdicts import Verdict
from kollm.judge import bridge as bridging
from kollm.judge.bridge import bridge
from kollm.judge.coefficients import krippendorff_alpha, weighted_kappa
from kollm.judge.corrected import corrected_mean
from kollm.judge.drift import drift
from kollm.judge.intervals import Floats, Interval, mean_interval
from kollm.judge.scores import Judging, ScoreTable

RNG = np.random.default_rng(0)
SPREAD = [0.1, 0.2, 0.3, 0.25, 0.15]
SKEWED = [0.02, 0.03, 0.05, 0.2, 0.7]


def main() -> None:
    print("labels correct a judge of 252 answers: a point milder by .8, with noise; coverage, width (labels alone)")
    for name, shares in (("spread", SPREAD), ("skewed", SKEWED)):
        for labels in (15, 30, 60):
            for noise in (0.3, 1.0, 3.0):
                print(f"  {name}, {labels} labels, noise {noise}: {corrected(shares, labels, noise)}")
    print("agreement of two judges whose leanings correlate: coverage of kappa, of alpha")
    for shared in (0.2, 0.6, 0.9):
        for size in (30, 100, 252):
            print(f"  correlation {shared}, {size} answers: {agreement(shared, size)}")
    print("a bridge to a harsher judge, 252 answers by the old one: coverage, width")
    bridging.RESAMPLES = 300
    for both in (30, 60, 120):
        print(f"  {both} answers by both: {bridged(both)}")
    print("drift of 60 sealed answers: share called drifted, called steady")
    for change in (0.0, 0.2, 0.5):
        print(f"  true change {change}: {drifted(change)}")


def within(interval: Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def points(values: Floats) -> Floats:
    return np.clip(np.round(values), 1, 5)


def corrected(shares: list[float], count: int, noise: float, studies: int = 2000) -> str:
    truth = float(np.dot(np.arange(1, 6), shares))
    covered, width, alone = 0, 0.0, 0.0
    for _ in range(studies):
        quality = RNG.choice(5, 252, p=shares) + 1.0
        labels = np.full(252, np.nan)
        labels[:count] = quality[:count]
        found = corrected_mean(points(quality + 0.8 + RNG.normal(0, noise, 252)), labels, (1, 5)).ci95
        of_labels = mean_interval(quality[:count], (1, 5))
        assert found is not None and of_labels is not None
        covered += within(found, truth)
        width, alone = width + found.high - found.low, alone + of_labels.high - of_labels.low
    return f"{covered / studies:.3f}, {width / studies:.2f} ({alone / studies:.2f})"


def leanings(size: int, shared: float) -> tuple[list[float], list[float]]:
    common = RNG.normal(size=size)
    both = [np.sqrt(shared) * common + np.sqrt(1 - shared) * RNG.normal(size=size) for _ in range(2)]
    a, b = ((np.digitize(x, [-1.5, -0.5, 0.5, 1.5]) + 1.0).tolist() for x in both)
    return a, b


def agreement(shared: float, size: int, studies: int = 1000) -> str:
    whole = leanings(400_000, shared)
    truths = weighted_kappa(*whole).value or 0.0, krippendorff_alpha(whole).value or 0.0
    covered = np.zeros(2)
    for _ in range(studies):
        pair = leanings(size, shared)
        covered += [
            within(c.ci95, t) for c, t in zip((weighted_kappa(*pair), krippendorff_alpha(pair)), truths, strict=True)
        ]
    return ", ".join(f"{share:.3f}" for share in covered / studies)


def table(model: str, systems: dict[str, Floats]) -> ScoreTable:
    found = ScoreTable(Judging("rubric", "sha256", "text", model))
    found.scores = {"overall": {s: {str(n): float(v) for n, v in enumerate(of)} for s, of in systems.items()}}
    return found


def bridged(count: int, studies: int = 200) -> str:
    def new(quality: Floats) -> Floats:
        return points(0.8 * quality + 0.1 + RNG.normal(0, 0.5, len(quality)))

    truth, covered, width = float(new(RNG.normal(3, 1.1, 400_000)).mean()), 0, 0.0
    for _ in range(studies):
        both, alone = RNG.normal(3, 1.1, count), RNG.normal(3, 1.1, 252)
        old = {"both": points(both + RNG.normal(0, 0.4, count)), "alone": points(alone + RNG.normal(0, 0.4, 252))}
        (mean,) = bridge(table("old", old), table("new", {"both": new(both)})).means
        covered += within(mean.ci95, truth)
        width += mean.ci95.high - mean.ci95.low
    return f"{covered / studies:.3f}, {width / studies:.2f}"


def drifted(change: float, studies: int = 500) -> str:
    said = []
    for _ in range(studies):
        quality = RNG.normal(3, 1, 60)
        then, now = (points(quality - shift + RNG.normal(0, 0.5, 60)) for shift in (0.0, change))
        said.append(drift(verdicts(then), verdicts(now), {"overall": (1.0, 5.0)})[0].conclusion)
    return ", ".join(f"{said.count(word) / studies:.3f}" for word in ("drifted", "steady"))


def verdicts(scores: Floats) -> list[Verdict]:
    return [
        Verdict(f"t-{n}", "a", f"h-{n}", "r", "s", "text", 0, "j", "j", {"overall": float(score)}, "ok", "", {})
        for n, score in enumerate(scores)
    ]


if __name__ == "__main__":
    main()
