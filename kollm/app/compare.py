"""Compare: two answers side by side and blind, or the scores of one by a rubric's axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import RedirectResponse, Response

from kollm.app.comparison import BETTER, TIE, WORSE
from kollm.app.visit import Visit
from kollm.core.errors import InputError
from kollm.judge.rubric import Rubric


async def compare(visit: Visit) -> Response:
    name = visit.place
    who = visit.who
    if not who:
        return visit.render("who.html.jinja", name=name)
    comparison = visit.desk.comparison(name)
    rated = visit.request.query_params.get("by") == "axes"
    pair = None if rated else next(comparison.pairs(who), None)
    answer = next(comparison.answers(who), None) if rated else None
    shown = [answer] if answer else [pair.first, pair.second] if pair else []
    return visit.render(
        "compare.html.jinja",
        name=name,
        shown=shown,
        key=visit.desk.sealed(shown[0].id, *(item.system for item in shown)) if shown else "",
        rated=rated,
        axes=visit.desk.rubric.axes,
        rubric=visit.desk.rubric.name,
        standing=comparison.standing(who),
        labels=str(comparison.notes / "labels.csv"),
        choices=(BETTER, TIE, WORSE),
    )


async def compare_choose(visit: Visit) -> Response:
    name, who = visit.place, visit.person()
    form = await visit.form()
    comparison = visit.desk.comparison(name)
    pair = next(comparison.pairs(who), None)
    if pair is None or form.get("key") != visit.desk.sealed(pair.id, pair.first.system, pair.second.system):
        raise InputError("This pair was decided already, perhaps in another window - go on with the next one.")
    comparison.choose(pair, who, str(form.get("choice", "")))
    return RedirectResponse(f"/compare/{name}", 303)


async def compare_score(visit: Visit) -> Response:
    name, who = visit.place, visit.person()
    form = await visit.form()
    comparison = visit.desk.comparison(name)
    answer = next(comparison.answers(who), None)
    if answer is None or form.get("key") != visit.desk.sealed(answer.id, answer.system):
        raise InputError("This answer was scored already, perhaps in another window - go on with the next one.")
    comparison.score(answer, who, _scores(form, visit.desk.rubric))
    return RedirectResponse(f"/compare/{name}?by=axes", 303)


async def compare_undo(visit: Visit) -> Response:
    name, who = visit.place, visit.person()
    visit.desk.comparison(name).undo(who)
    form = await visit.form()
    return RedirectResponse(f"/compare/{name}" + ("?by=axes" if form.get("by") == "axes" else ""), 303)


def _scores(form: Mapping[str, Any], rubric: Rubric) -> dict[str, float]:
    scores = {}
    for axis in rubric.axes:
        text = str(form.get(f"axis.{axis.key}", "")).strip()
        if not text:
            continue
        try:
            score = float(text)
        except ValueError:
            raise InputError(
                f"{axis.key} is {text!r}, not a number - give one from {axis.low:g} to {axis.high:g}."
            ) from None
        if not axis.low <= score <= axis.high:
            raise InputError(f"{axis.key} is {text} - give a number from {axis.low:g} to {axis.high:g}.")
        scores[axis.key] = score
    if not scores:
        raise InputError("No axis has a score - give at least one.")
    return scores
