"""The forms of other projects: which one a file has, and reading several files into one list of verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.columns import check_shown
from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge.foreign.arena import is_alpaca_eval, is_mt_bench, read_alpaca_eval, read_mt_bench
from kollm.judge.foreign.harness import is_inspect, is_lm_eval, read_inspect, read_lm_eval
from kollm.judge.foreign.korean import is_komt, is_kullm3, is_logickor, read_komt, read_kullm3, read_logickor
from kollm.judge.foreign.rows import Found, Source
from kollm.judge.foreign.table import read_table
from kollm.judge.pairwise import PairVerdict


class Form(NamedTuple):
    """How a row of the form looks, and how a file of it is read."""

    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Source], Iterator[Found]]


FORMS: dict[str, Form] = {
    "logickor": Form(is_logickor, read_logickor),
    "alpaca-eval": Form(is_alpaca_eval, read_alpaca_eval),
    "mt-bench": Form(is_mt_bench, read_mt_bench),
    "komt": Form(is_komt, read_komt),
    "kullm3": Form(is_kullm3, read_kullm3),
    "lm-eval": Form(is_lm_eval, read_lm_eval),
    "inspect": Form(is_inspect, read_inspect),
    "table": Form(lambda _: False, read_table),
}


class Imported(NamedTuple):
    """What files of judgments hold.

    Attributes:
        verdicts: of answers.
        pairs: of two answers each.
        answers: the judged answers, where the files hold them.
        forms: form -> files read in it.
    """

    verdicts: list[Verdict]
    pairs: list[PairVerdict]
    answers: list[Generation]
    forms: dict[str, int]


def form_of(source: Source) -> str:
    """The form of a file, by its first row; `table` where axes are named.

    Raises:
        InputError: it has no row, or one of no known form.
    """
    if source.axes:
        return "table"
    first = next(source.rows(key="evaluation"), None)
    if first is None:
        raise InputError(f"{source.path} holds no judgments - check the file.")
    for name, form in FORMS.items():
        if form.fits(first[1]):
            return name
    shown = ", ".join(list(map(str, first[1]))[:8])
    raise InputError(
        f"{source.path} is in no form that kollm knows (its rows have {shown}) - name its scores: --axis KEY=COLUMN:LOW-HIGH, "
        f"or the form: --form {', '.join(FORMS)}."
    )


def import_files(sources: Sequence[Source], form: str = "auto") -> Imported:
    """Read files of judgments.

    Args:
        sources: the files.
        form: one of FORMS, or `auto` to tell it from each file.

    Raises:
        InputError: a file is in another form, is malformed, or holds a name that no table can show.
    """
    found = Imported([], [], [], {})
    seen: dict[tuple[Any, ...], Path] = {}
    for source in sources:
        name = form_of(source) if form == "auto" else form
        found.forms[name] = found.forms.get(name, 0) + 1
        try:
            for verdict, answer in FORMS[name].read(source):
                _keep(found, verdict, source.path, seen)
                if answer is not None:
                    found.answers.append(answer)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"{source.path} is not as the form '{name}' has it ({type(error).__name__}: {error}) - choose another --form."
            ) from error
    if not found.verdicts and not found.pairs:
        raise InputError(f"There are no judgments in {', '.join(str(s.path) for s in sources[:3])} - check the files.")
    return found


def _keep(found: Imported, verdict: Verdict | PairVerdict, path: Path, seen: dict[tuple[Any, ...], Path]) -> None:
    if isinstance(verdict, PairVerdict):
        check_shown(path, verdict.id, verdict.system_a)
        check_shown(path, verdict.id, verdict.system_b)
        found.pairs.append(verdict)
        return
    check_shown(path, verdict.id, verdict.system)
    key = (*verdict.key(), verdict.answer)
    if key in seen:
        raise InputError(
            f"{path}: the task {verdict.id} of '{verdict.system}' is judged twice"
            + (f", also in {seen[key]}" if seen[key] != path else "")
            + " - give each file its system: --system, one command a file."
        )
    seen[key] = path
    found.verdicts.append(verdict)
