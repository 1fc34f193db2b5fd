"""Review: translations, the worst first, each decided by one key."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from kollm.app.decisions import Decisions
from kollm.app.shown import show_row
from kollm.app.suspicion import SuspicionIndex
from kollm.app.visit import Visit

CONTROL_EVERY = 10
"""After so many suspected rows one of the control sample is shown."""


async def review(visit: Visit) -> Response:
    name = visit.place
    who = visit.who
    if not who:
        return visit.render("who.html.jinja", name=name)
    index, decisions, rows = visit.desk.suspicion(name), visit.desk.decisions(name), visit.desk.rows(name)
    scored, whole = index.counts()
    wanted = visit.request.query_params.get("id", "")
    id = wanted or _next_row(index, decisions, who)
    found = rows.find(id) if id else None
    score = index.get(id) if id else None
    progress = decisions.progress(who, index.ids(), index.ids(control=True))
    return visit.render(
        "review.html.jinja",
        name=name,
        found=found,
        shown=show_row(found.record) if found else None,
        score=score,
        progress=progress,
        scored=scored,
        whole=whole,
        conflicts=len(decisions.conflicts()),
        agreement=decisions.agreement(),
        others={person: item for person, item in decisions.latest(id).items() if person != who} if wanted else {},
        last=decisions.last_of(who),
        folder=str(visit.desk.library.datasets[name].notes / "decisions"),
    )


async def review_decide(visit: Visit) -> Response:
    name, who = visit.place, visit.person()
    form = await visit.form()
    found = visit.desk.rows(name).find(str(form.get("id", "")))
    if found is None:
        raise HTTPException(404)
    texts = {
        key.removeprefix("text."): str(value).replace("\r\n", "\n")
        for key, value in form.items()
        if key.startswith("text.")
    }
    visit.desk.decisions(name).decide(found.record, who, str(form.get("kind", "")), texts)
    return RedirectResponse(f"/review/{name}", 303)


async def review_undo(visit: Visit) -> Response:
    name, who = visit.place, visit.person()
    last = visit.desk.decisions(name).last_of(who)
    found = visit.desk.rows(name).find(last.id) if last else None
    if found is None:
        return RedirectResponse(f"/review/{name}", 303)
    visit.desk.decisions(name).decide(found.record, who, "", {})
    return RedirectResponse(f"/review/{name}?{urlencode({'id': found.record.id})}", 303)


async def review_conflicts(visit: Visit) -> Response:
    name = visit.place
    decisions = visit.desk.decisions(name)
    return visit.render(
        "conflicts.html.jinja", name=name, conflicts=decisions.conflicts(), agreement=decisions.agreement()
    )


def _next_row(index: SuspicionIndex, decisions: Decisions, who: str) -> str:
    """The worst row without this person's decision; every tenth is one of the control sample."""
    mine = decisions.decided(who)
    control = index.queue(1, mine, control=True)
    suspected = index.queue(1, mine)
    if control and (not suspected or len(mine) % CONTROL_EVERY == CONTROL_EVERY - 1):
        return control[0].id
    return suspected[0].id if suspected else ""
