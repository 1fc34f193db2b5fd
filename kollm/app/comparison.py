"""People's verdicts on answers, blind: which of two is better, or the scores of a rubric's axes.

Each person's verdicts are lines of a file of their own, on disk before the next pair shows. `labels.csv`, in the form
that `kollm compare --agreement` reads, is written anew from them: a row a person and answer.
"""

from __future__ import annotations

import csv
import io
import math
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from kollm.app import log
from kollm.core.errors import InputError
from kollm.core.files import write_atomic
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict

BETTER, TIE, WORSE = "first", "tie", "second"
ENOUGH = 20.0
"""Evidence against a tie at which more labels will hardly change who is better: an e-value of 20 is an error of 5%."""


class Pair(NamedTuple):
    """Two answers to one task in the order in which a person sees them; the systems are not shown."""

    id: str
    first: Generation
    second: Generation


@dataclass(frozen=True, slots=True)
class Label:
    """One verdict: of a pair (`choice`), or of one answer (`scores` by axis)."""

    id: str
    systems: tuple[str, ...]
    who: str
    choice: str = ""
    scores: dict[str, float] = field(default_factory=dict)


class Standing(NamedTuple):
    """What the labels say so far.

    Attributes:
        done, total: pairs that this person decided, and those there are.

        evidence: how strongly the labels of the two systems speak against a tie (an e-value, valid at every look).
        people: pairs that several people decided, and the share on which they agree with its interval.
        judge: pairs that the judge scored too, and the share on which it agrees with people, with its interval.
    """

    done: int
    total: int
    evidence: float
    people: tuple[int, float, float, float] | None
    judge: tuple[int, float, float, float] | None

    @property
    def enough(self) -> bool:
        """Whether more labels will hardly change the conclusion."""
        return self.evidence >= ENOUGH


class Comparison:
    """Blind comparisons of the answers of one file.

    Args:
        generations: the answers of two systems or more.
        notes: the folder for labels.
        verdicts: the judge's, for its agreement with people.

    Raises:
        InputError: fewer than two systems answered the same task.
    """

    def __init__(self, generations: Iterable[Generation], notes: Path, verdicts: Iterable[Verdict] = ()) -> None:
        self._answers: dict[str, dict[str, Generation]] = {}
        for item in generations:
            self._answers.setdefault(item.id, {})[item.system] = item
        self.systems = sorted({system for of in self._answers.values() for system in of})
        if not any(len(of) > 1 for of in self._answers.values()):
            raise InputError("No task was answered by two systems - let another system answer: kollm generate.")
        self.notes = notes
        self._judge = _preferences(verdicts)
        self._lock = threading.Lock()
        self._labels: dict[tuple[str, tuple[str, ...], str], Label] = {}
        for path in sorted((notes / "labels").glob("*.jsonl")):
            for row in log.read(path):
                self._keep(
                    Label(row["id"], tuple(row["systems"]), row["who"], row.get("choice", ""), row.get("scores", {}))
                )

    def pairs(self, who: str) -> Iterator[Pair]:
        """The pairs that this person has not decided, in an order and with sides that their name decides."""
        everything = [(id, pair) for id, of in self._answers.items() for pair in combinations(sorted(of), 2)]
        order = random.Random(f"kollm {who}")
        order.shuffle(everything)
        for id, (a, b) in everything:
            first, second = (a, b) if order.random() < 0.5 else (b, a)
            if (id, (a, b), who) not in self._labels:
                yield Pair(id, self._answers[id][first], self._answers[id][second])

    def answers(self, who: str) -> Iterator[Generation]:
        """The single answers that this person has not scored, in an order that their name decides."""
        everything = [item for of in self._answers.values() for item in of.values()]
        random.Random(f"kollm {who} scores").shuffle(everything)
        yield from (item for item in everything if (item.id, (item.system,), who) not in self._labels)

    def choose(self, pair: Pair, who: str, choice: str) -> None:
        """Write which answer of a pair is better.

        Raises:
            InputError: the choice is unknown, or the labels cannot be written.
        """
        if choice not in (BETTER, TIE, WORSE):
            raise InputError(f"The choice '{choice}' is unknown - use {BETTER}, {TIE} or {WORSE}.")
        a, b = sorted((pair.first.system, pair.second.system))
        if choice != TIE:
            better = pair.first.system if choice == BETTER else pair.second.system
            choice = BETTER if better == a else WORSE
        self._write(Label(pair.id, (a, b), who, choice))

    def score(self, answer: Generation, who: str, scores: Mapping[str, float]) -> None:
        """Write the scores that a person gave to one answer.

        Raises:
            InputError: a score is no finite number, or the labels cannot be written.
        """
        for axis, score in scores.items():
            if not math.isfinite(score):
                raise InputError(f"{axis} is {score}, not a number - give one of the scale.")
        self._write(Label(answer.id, (answer.system,), who, scores=dict(scores)))

    def undo(self, who: str) -> bool:
        """Take this person's last label back; False if there is none."""
        with self._lock:
            mine = [label for label in self._labels.values() if label.who == who]
        if not mine:
            return False
        last = mine[-1]
        self._write(Label(last.id, last.systems, who))
        return True

    def pair(self, id: str, first: str, second: str) -> Pair:
        """The pair of two systems' answers to a task.

        Raises:
            InputError: one of them has not answered it.
        """
        of = self._answers.get(id, {})
        if first not in of or second not in of:
            raise InputError(f"The task '{id}' has no answers of both systems - go back and take the next pair.")
        return Pair(id, of[first], of[second])

    def answer(self, id: str, system: str) -> Generation:
        """One answer.

        Raises:
            InputError: there is none.
        """
        if system not in self._answers.get(id, {}):
            raise InputError(f"The task '{id}' has no such answer - go back and take the next one.")
        return self._answers[id][system]

    def standing(self, who: str) -> Standing:
        """How far this person is, and how far people and judge agree."""
        with self._lock:
            labels = [label for label in self._labels.values() if label.choice]
        total = sum(len(list(combinations(of, 2))) for of in self._answers.values())
        done = sum(label.who == who for label in labels)
        wins = [evidence(labels, pair) for pair in combinations(self.systems, 2)]
        return Standing(done, total, min(wins, default=0.0), _people(labels), self._with_judge(labels))

    def write_labels(self) -> Path:
        """Write `labels.csv`: id, system, rater and one column an axis; `preference` is the share of pairs won."""
        with self._lock:
            labels = list(self._labels.values())
        found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
        for label in labels:
            for system, axis, value in _scores_of(label):
                found.setdefault((label.id, system, label.who), {}).setdefault(axis, []).append(value)
        axes = sorted({axis for of in found.values() for axis in of})
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["id", "system", "rater", *axes])
        for (id, system, who), of in sorted(found.items()):
            means = [sum(of[axis]) / len(of[axis]) if axis in of else "" for axis in axes]
            table.writerow([id, system, who, *(f"{mean:g}" if mean != "" else "" for mean in means)])
        path = self.notes / "labels.csv"
        write_atomic(path, text.getvalue())
        return path

    def _with_judge(self, labels: list[Label]) -> tuple[int, float, float, float] | None:
        same = [
            (label.choice == _sign(self._judge[label.id, a] - self._judge[label.id, b]))
            for label in labels
            for a, b in [label.systems]
            if (label.id, a) in self._judge and (label.id, b) in self._judge
        ]
        return _share(sum(same), len(same))

    def _keep(self, label: Label) -> None:
        key = (label.id, label.systems, label.who)
        self._labels.pop(key, None)  # the latest stands last
        if label.choice or label.scores:
            self._labels[key] = label

    def _write(self, label: Label) -> None:
        log.append(self.notes / "labels" / f"{label.who}.jsonl", asdict(label))
        with self._lock:
            self._keep(label)
        self.write_labels()


def evidence(labels: Iterable[Label], systems: tuple[str, str]) -> float:
    """Evidence against "as often better as worse" for two systems, ties left out; 1 is none.

    An e-value: the likelihood under a uniform prior of the win rate over the likelihood under one half (Ville 1939). It may
    be looked at after every label: the chance that it ever reaches 20 without a difference is at most 5%.
    """
    choices = [label.choice for label in labels if label.systems == systems]
    won, lost = choices.count(BETTER), choices.count(WORSE)
    log = math.lgamma(won + 1) + math.lgamma(lost + 1) - math.lgamma(won + lost + 2) + (won + lost) * math.log(2)
    return math.exp(min(log, 700.0))


def _scores_of(label: Label) -> Iterator[tuple[str, str, float]]:
    if label.scores:
        yield from ((label.systems[0], axis, score) for axis, score in label.scores.items())
    elif label.choice:
        value = {BETTER: 1.0, TIE: 0.5, WORSE: 0.0}[label.choice]
        yield label.systems[0], "preference", value
        yield label.systems[1], "preference", 1.0 - value


def _preferences(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], float]:
    """The judge's score of each answer on the axis that stands for the whole: `overall_quality`, else the mean of all."""
    found: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        scores = [score for score in verdict.scores.values() if score is not None]
        overall = verdict.scores.get("overall_quality")
        if verdict.status == "ok" and scores:
            found[verdict.id, verdict.system] = overall if overall is not None else sum(scores) / len(scores)
    return found


def _people(labels: list[Label]) -> tuple[int, float, float, float] | None:
    of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for label in labels:
        of.setdefault((label.id, label.systems), []).append(label.choice)
    twice = [choices for choices in of.values() if len(choices) > 1]
    return _share(sum(len(set(choices)) == 1 for choices in twice), len(twice))


def _share(same: int, n: int) -> tuple[int, float, float, float] | None:
    """n, the share, and its 95% interval (Clopper and Pearson 1934)."""
    if n == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(same, n).proportion_ci(0.95, method="exact")
    return n, same / n, float(interval.low), float(interval.high)


def _sign(difference: float) -> str:
    return TIE if difference == 0 else BETTER if difference > 0 else WORSE
