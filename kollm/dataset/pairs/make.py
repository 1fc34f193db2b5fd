"""`kollm data pairs`: a dataset folder of preferences, from what it is given.

The same inputs give the same bytes, and the folder is there whole or not at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError
from kollm.core.files import file_sha256
from kollm.core.hashing import content_id
from kollm.core.preferences import PairProvenance, Preference
from kollm.core.progress import say
from kollm.core.text import language_of, normalise
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part, read_manifest
from kollm.dataset.given import is_own
from kollm.dataset.leak_check import load_references
from kollm.dataset.manifest import reference_name
from kollm.dataset.pairs.card import render_pairs_card
from kollm.dataset.pairs.choosing import REASONS, Choosing, Chosen
from kollm.dataset.pairs.given import Given, sort_given
from kollm.dataset.pairs.judged import Judged, read_judged
from kollm.dataset.pairs.length import balanced, length_bias
from kollm.dataset.pairs.settings import PairSettings, PairsReport
from kollm.dataset.pairs.translation import PairTranslation, translate_pairs
from kollm.dataset.preferences import has_preferences, preference_table, read_preferences
from kollm.services.repository import locate
from kollm.sources import is_local
from kollm.sources.own.pairs import read_own_pairs

_BATCH = 1_000
BALANCE = "length_balance"
LEAK = "evaluation_task"
DUPLICATE = "duplicate"


@dataclass(slots=True)
class Made:
    """Pairs on their way, and what was counted.

    Attributes:
        pairs: those that are left.
        sources: what was read, as the manifest has it.
        left_out: tasks or rows without a pair, by reason.
        judged: who preferred; None for files of pairs.
        characters: billed for translation.
        against: evaluation sets whose tasks make no pairs.
    """

    pairs: list[Preference]
    sources: list[dict[str, Any]]
    left_out: Counter[str] = field(default_factory=Counter)
    judged: Judged | None = None
    characters: int = 0
    against: tuple[str, ...] = ()


def make_pairs(
    inputs: Sequence[str | Path],
    output: str | Path,
    settings: PairSettings | None = None,
    translation: PairTranslation | None = None,
) -> PairsReport:
    """Make a dataset folder of preferences.

    Args:
        inputs: runs, files of answers and of verdicts, pairwise verdicts or labels; or pairs: of a user's own, or datasets of them.
        output: the folder; an earlier dataset of kollm's there is replaced once the new one is whole.
        settings: see PairSettings.
        translation: by which pairs in English become Korean; None to leave them as they are.

    Raises:
        InputError: an input that cannot be used, an evaluation task among the prompts, or no pair left.
        QuotaError, ServiceError: as the translator raises them; what was answered is in the ledger.
    """
    settings = settings or PairSettings()
    with DatasetWriter(Path(output)) as writer:
        made = gather(inputs, settings)
        if translation is not None and translation.engine != "none":
            made.pairs, made.characters, lost = translate_pairs(made.pairs, translation)
            made.left_out.update(lost)
            _look_for_tasks(made, settings)
        if settings.balance:
            kept = balanced(made.pairs)
            made.left_out[BALANCE] += len(made.pairs) - len(kept)
            made.pairs = kept
        if not made.pairs:
            raise InputError(_nothing_left(made))
        splits = _split(made.pairs, settings.test)
        for split, pairs in splits.items():
            for start in range(0, len(pairs), _BATCH):
                writer.write(Part(PREFERENCES, split), preference_table(pairs[start : start + _BATCH]))
        manifest = _manifest(made, settings, translation)
        card = render_pairs_card(
            settings.own.name, {name: len(pairs) for name, pairs in splits.items()}, manifest, made.pairs
        )
        folder = writer.publish(manifest, card)
    judged = made.judged
    return PairsReport(
        folder,
        {split: len(pairs) for split, pairs in splits.items()},
        {reason: count for reason, count in sorted(made.left_out.items()) if count},
        length_bias(made.pairs),
        manifest["pairs"]["margin"],
        manifest["pairs"]["agreement"],
        judged.outdated if judged else 0,
        dict(judged.failed) if judged else {},
        made.characters,
    )


def gather(inputs: Sequence[str | Path], settings: PairSettings) -> Made:
    """The pairs of some inputs before translation, with what was counted on the way.

    Raises:
        InputError: an input that cannot be used, or an evaluation task among the prompts.
    """
    given = sort_given(inputs)
    made = _own(given, settings) if given.own else _judged(given, settings)
    made.against = (*settings.against, *given.evaluations)
    _drop_repeats(made)
    _look_for_tasks(made, settings)
    return made


def _judged(given: Given, settings: PairSettings) -> Made:
    judged = read_judged(given, settings.axis, settings.rubric, settings.judge)
    choosing = Choosing(settings.limits, judged.votes, same_people=judged.origin == "labels")
    files = [
        ("answers", given.answers),
        ("verdicts", given.verdicts),
        ("pairwise verdicts", given.pairwise),
        ("labels", given.labels),
    ]
    sources = [
        {"name": name, "from": "local file", "revision": file_sha256(path), "rows": 0}
        for name, paths in files
        for path in paths
    ]
    pairs: list[Preference] = []
    numbers: Counter[str] = Counter()
    for chosen in choosing.pairs(judged.tasks):
        task = chosen.chosen.answer.id
        numbers[task] += 1
        pairs.append(_preference(chosen, judged, settings, numbers[task]))
    sources[0]["rows"] = len(judged.tasks)
    return Made(pairs, sources, choosing.left_out, judged)


def _preference(pair: Chosen, judged: Judged, settings: PairSettings, number: int) -> Preference:
    answer, other = pair.chosen.answer, pair.rejected.answer
    scores = [round(side.opinion.mean, 6) if side.opinion.given else None for side in (pair.chosen, pair.rejected)]
    more = f"-{number}" if number > 1 else ""
    return Preference(
        id=f"{settings.own.name}-{answer.id}{more}",
        source=settings.own.name,
        instruction=answer.instruction,
        input=answer.input,
        history=answer.history,
        system=answer.system_message,
        tools=answer.tools,
        chosen=answer.response,
        rejected=other.response,
        lang=settings.own.lang or language_of(f"{answer.instruction}\n{answer.response}\n{other.response}"[:4000]),
        licence=settings.licences.get(answer.id, settings.own.licence),
        provenance=PairProvenance(
            task=answer.id,
            chosen_system=answer.system,
            rejected_system=other.system,
            chosen_score=scores[0],
            rejected_score=scores[1],
            margin=pair.margin,
            agreement=pair.agreement,
            verdicts=pair.verdicts,
            judge=judged.judge,
            rubric=judged.rubric,
            rubric_sha256=judged.rubric_sha256,
            axis=judged.axis,
            origin=judged.origin,
        ),
    ).normalised()


def _own(given: Given, settings: PairSettings) -> Made:
    if settings.axis or settings.rubric or settings.judge:
        raise InputError(
            f"'{given.own[0]}' holds whole pairs, which nobody scores - leave out --axis, --rubric and --judge."
        )
    made = Made([], [])
    taken: set[str] = set()
    for name in given.own:
        if (folder := _made_before(name)) is not None:
            found = _of_dataset(folder, settings)
            say(f"{name}: {counted(len(found), 'pair')} of a dataset that kollm made")
            made.pairs += [pair for pair in _renamed(found, taken, True) if _is_within(pair, settings, made.left_out)]
            made.sources += [source for source in read_manifest(folder)["sources"] if source not in made.sources]
            continue
        own = read_own_pairs(name, settings.own, settings.limit)
        kept = [pair for pair in _renamed(own, taken, len(given.own) > 1) if _is_within(pair, settings, made.left_out)]
        say(own.rows.summary())
        made.pairs += kept
        counts = own.rows.counts
        made.left_out.update(
            {key.removeprefix("left out: "): n for key, n in counts.items() if key.startswith("left out")}
        )
        origin = name if not is_local(name) else "local file"
        made.sources.append(
            {"name": settings.own.name, "from": origin, "revision": own.rows.revision, "rows": counts["read"]}
        )
    return made


def _made_before(name: str) -> Path | None:
    """The folder, where an input is a dataset of pairs that kollm made; None for rows of a user's own."""
    if is_own(name):
        return None
    folder = locate(name, "dataset").folder
    return folder if has_preferences(folder) else None


def _of_dataset(folder: Path, settings: PairSettings) -> list[Preference]:
    """The pairs of a dataset as they are, with a licence where they have none and one is named."""
    pairs = islice(read_preferences(folder, settings.own.split or "train"), settings.limit)
    return [replace(pair, licence=pair.licence or settings.own.licence) for pair in pairs]


def _renamed(pairs: Iterable[Preference], taken: set[str], several: bool) -> Iterator[Preference]:
    """The pairs of one input of several, their ids told apart."""
    for pair in pairs:
        name, number = pair.id, 1
        while several and name in taken:
            number += 1
            name = f"{pair.id}-f{number}"
        taken.add(name)
        yield pair if name == pair.id else replace(pair, id=name)


def _is_within(pair: Preference, settings: PairSettings, left_out: Counter[str]) -> bool:
    """Whether a pair of a file keeps the limits, as far as it tells its scores."""
    limits, margin = settings.limits, pair.provenance.margin
    ratio = math.log(len(pair.chosen) / len(pair.rejected))
    if margin is not None and (margin < limits.margin or margin < 0):
        left_out["below_margin"] += 1
    elif limits.length_ratio is not None and abs(ratio) > math.log(limits.length_ratio):
        left_out["length_ratio"] += 1
    else:
        return True
    return False


def _drop_repeats(made: Made) -> None:
    """Of pairs with the same texts, the first stays."""
    seen: set[str] = set()
    kept = []
    for pair in made.pairs:
        key = content_id([*_prompt(pair), pair.chosen, pair.rejected])
        if key in seen:
            made.left_out[DUPLICATE] += 1
            continue
        seen.add(key)
        kept.append(pair)
    made.pairs = kept


def _look_for_tasks(made: Made, settings: PairSettings) -> None:
    """Refuse pairs that hold an evaluation task, or leave them out.

    Raises:
        InputError: there are some, and they are not to be left out.
    """
    found = dict(_leaks(made.pairs, made.against))
    if not found:
        return
    if settings.leaks == "refuse":
        shown = ", ".join(f"{row}: {task}" for row, task in list(found.items())[:3])
        raise InputError(
            f"Of {counted(len(made.pairs), 'pair')}, {counted(len(found), 'holds', 'hold')} an evaluation task of {', '.join(map(reference_name, made.against))} ({shown}); a "
            "model must not be tuned on what it is tested on - answer training prompts instead, or leave those pairs out: "
            "--leaks drop."
        )
    made.left_out[LEAK] += len(found)
    made.pairs = [pair for pair in made.pairs if pair.id not in found]


def _leaks(pairs: Iterable[Preference], against: Sequence[str]) -> Iterator[tuple[str, str]]:
    tasks = load_references(against)
    iterator = iter(pairs)
    while batch := list(islice(iterator, _BATCH)):
        texts = [normalise("\n".join((*pair.record().texts().values(), pair.rejected))) for pair in batch]
        yield from ((batch[leak.row].id, leak.task) for leak in tasks.find(texts))


def _nothing_left(made: Made) -> str:
    read = sum(source["rows"] for source in made.sources)
    reasons = "; ".join(f"{count:,}: {REASONS.get(reason, reason)}" for reason, count in made.left_out.most_common(4))
    advice = (
        "lower --margin or --agreement, or let more and longer samples be drawn and judged"
        if made.judged is not None
        else "see the reasons, and check which columns are read (--map)"
    )
    return (
        f"No pair is left of {read:,} {'tasks' if made.judged else 'rows'} ({reasons or 'there were none'}) - {advice}."
    )


def _prompt(pair: Preference) -> list[Any]:
    """What both answers of a pair answer."""
    return [pair.system, pair.history, pair.instruction, pair.input, *([pair.tools] if pair.tools else [])]


def _split(pairs: Sequence[Preference], test: float) -> dict[str, list[Preference]]:
    """The pairs of each split; all pairs of a prompt are in one."""
    prompts = {pair.id: content_id(_prompt(pair)) for pair in pairs}
    order = sorted(set(prompts.values()))
    held = set(order[: min(len(order) - 1, max(1, round(test * len(order))))]) if test else set()
    splits = {
        "train": [pair for pair in pairs if prompts[pair.id] not in held],
        "test": [pair for pair in pairs if prompts[pair.id] in held],
    }
    return {name: of for name, of in splits.items() if of}


def _manifest(made: Made, settings: PairSettings, translation: PairTranslation | None) -> dict[str, Any]:
    """Sources, settings and counts; nothing in it depends on when or where the pairs were made."""
    judged, limits = made.judged, settings.limits
    margins = [pair.provenance.margin for pair in made.pairs]
    agreements = [pair.provenance.agreement for pair in made.pairs]
    return {
        "sources": made.sources,
        "translator": {
            "name": translation.engine if translation else "none",
            "terms": translation.terms if translation else "",
        },
        "settings": {
            "keep_english": False,
            "against": [reference_name(name) for name in made.against],
            "margin": limits.margin,
            "agreement": limits.agreement,
            "max_length_ratio": limits.length_ratio,
            "take": limits.take,
            "allow_cut": limits.cut,
            "balance_length": settings.balance,
            "test": settings.test,
            "leaks": settings.leaks,
        },
        "rows": {PREFERENCES: len(made.pairs)},
        "dropped": {reason: count for reason, count in sorted(made.left_out.items()) if count},
        "characters": made.characters,
        "pairs": {
            "origin": judged.origin if judged else "file",
            "judge": judged.judge if judged else "",
            "rubric": judged.rubric if judged else "",
            "rubric_sha256": judged.rubric_sha256 if judged else "",
            "axis": judged.axis if judged else "",
            "margin": _mean(margins),
            "agreement": _mean(agreements),
            "unscored": dict(judged.failed) if judged else {},
            "outdated": judged.outdated if judged else 0,
            "length": length_bias(made.pairs).to_row(),
            "systems": _systems(made.pairs),
        },
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 6) if known else None


def _systems(pairs: Iterable[Preference]) -> dict[str, Mapping[str, int]]:
    """System -> how often its answer is chosen and rejected."""
    found: dict[str, Counter[str]] = {}
    for pair in pairs:
        for side, name in (("chosen", pair.provenance.chosen_system), ("rejected", pair.provenance.rejected_system)):
            if name:
                found.setdefault(name, Counter())[side] += 1
    return {name: {"chosen": of["chosen"], "rejected": of["rejected"]} for name, of in sorted(found.items())}
