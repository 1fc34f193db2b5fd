"""Look: a dataset page by page, one row in full, and how its rows are spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from kollm.app.rows import PAGE_ROWS, Query
from kollm.app.shown import show_row
from kollm.app.visit import Visit, as_number
from kollm.core.errors import InputError

ASKED = ("text", "source", "licence", "flag", "rejected", "reason", "shortest", "longest")
"""What a list may be asked for, as it stands in its address."""


async def look(visit: Visit) -> Response:
    name = visit.place
    rows = visit.desk.rows(name)
    asked = visit.request.query_params
    query = _query(asked)
    flag = asked.get("flag", "")
    if flag:
        query = replace(query, ids=tuple(sorted(visit.desk.suspicion(name).ids(reason=flag))))
    number = as_number(asked.get("page")) or 0
    found = rows.page(query, number)
    return visit.render(
        "look.html.jinja",
        name=name,
        found=found,
        asked={**dict.fromkeys(ASKED, ""), **asked},
        number=number,
        last=max((found.total - 1) // PAGE_ROWS, 0),
        has_rejected=rows.has_rejected,
        sources=rows.counts("source", query.rejected),
        licences=rows.counts("licence", query.rejected),
        reasons=rows.counts("reason", query.rejected),
        flags=_flags(visit, name),
        link=lambda **changes: "?" + urlencode({k: v for k, v in {**asked, **changes}.items() if v not in ("", None)}),
    )


async def look_row(visit: Visit) -> Response:
    name = visit.place
    found = visit.desk.rows(name).find(visit.request.query_params.get("id", ""))
    if found is None:
        raise HTTPException(404)
    return visit.render(
        "row.html.jinja",
        name=name,
        found=found,
        shown=show_row(found.record),
        decisions=visit.desk.decisions(name).latest(found.record.id),
        share=f"{visit.request.url.path}?{urlencode({'id': found.record.id, 'token': visit.desk.token})}",
    )


async def look_counts(visit: Visit) -> Response:
    name = visit.place
    rows = visit.desk.rows(name)
    tables = [
        (column, rows.counts(column, rejected), rejected)
        for column, rejected in (("source", False), ("licence", False), ("lang", False), ("reason", True))
    ]
    return visit.render(
        "counts.html.jinja", name=name, tables=tables, lengths=rows.lengths(), flags=_flags(visit, name)
    )


def _query(asked: Mapping[str, str]) -> Query:
    return Query(
        text=asked.get("text", ""),
        source=asked.get("source", ""),
        licence=asked.get("licence", ""),
        reason=asked.get("reason", "") if asked.get("rejected") else "",
        rejected=bool(asked.get("rejected")),
        shortest=as_number(asked.get("shortest")),
        longest=as_number(asked.get("longest")),
    )


def _flags(visit: Visit, name: str) -> list[tuple[str, int]]:
    """What speaks against rows, as far as they are scored; nothing where the notes cannot be written."""
    try:
        return visit.desk.suspicion(name).reasons()
    except InputError:
        return []
