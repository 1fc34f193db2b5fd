"""The server of the pages: which address shows what.

Pages are plain HTML, filled by templates that escape everything; the content policy lets nothing run but the one script.
No key is ever put on a page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from kollm.app import chat, compare, look, review
from kollm.app.decisions import person_name
from kollm.app.desk import Desk
from kollm.app.guard import Guard
from kollm.app.visit import LANGUAGE, PAGES, WHO, Pages, Visit
from kollm.core.errors import KollmError
from kollm.core.resources import resource_folder

YEAR = 31_536_000


def make_app(desk: Desk) -> Starlette:
    """The pages over what the desk holds."""
    pages = Pages()

    def page(view: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            visit = Visit(desk, pages, request)
            try:
                return await view(visit)
            except KollmError as error:
                return visit.render("error.html.jinja", 400, message=str(error))
            except HTTPException as error:
                return visit.render("error.html.jinja", error.status_code, message="")

        return answer

    app = Starlette(
        routes=[
            Route("/", page(home)),
            Route("/language", page(set_language), methods=["POST"]),
            Route("/who", page(set_who), methods=["POST"]),
            Route("/look/{name}", page(look.look)),
            Route("/look/{name}/row", page(look.look_row)),
            Route("/look/{name}/counts", page(look.look_counts)),
            Route("/review/{name}", page(review.review)),
            Route("/review/{name}/decide", page(review.review_decide), methods=["POST"]),
            Route("/review/{name}/undo", page(review.review_undo), methods=["POST"]),
            Route("/review/{name}/conflicts", page(review.review_conflicts)),
            Route("/compare/{name}", page(compare.compare)),
            Route("/compare/{name}/choose", page(compare.compare_choose), methods=["POST"]),
            Route("/compare/{name}/score", page(compare.compare_score), methods=["POST"]),
            Route("/compare/{name}/undo", page(compare.compare_undo), methods=["POST"]),
            Route("/chat", page(chat.chat)),
            Route("/chat/say", page(chat.chat_say), methods=["POST"]),
            Route("/chat/system", page(chat.chat_system), methods=["POST"]),
            Route("/chat/row", page(chat.chat_row), methods=["POST"]),
            Route("/chat/pair", page(chat.chat_pair), methods=["POST"]),
            Mount("/static", StaticFiles(directory=PAGES / "static")),
            Mount("/font", StaticFiles(directory=resource_folder("report/page/font"))),
        ]
    )
    app.add_middleware(Guard, desk=desk)
    return app


async def home(visit: Visit) -> Response:
    return visit.render("home.html.jinja", library=visit.desk.library, room=visit.desk.room)


async def set_language(visit: Visit) -> Response:
    form = await visit.form()
    answer = _back(form.get("here"))
    answer.set_cookie(LANGUAGE, "ko" if form.get("language") == "ko" else "en", samesite="strict", max_age=YEAR)
    return answer


async def set_who(visit: Visit) -> Response:
    form = await visit.form()
    answer = _back(form.get("here"))
    answer.set_cookie(WHO, quote(person_name(str(form.get("who", "")))), samesite="strict", max_age=YEAR)
    return answer


def _back(here: object) -> RedirectResponse:
    """Back to where the form stood: a path of this server alone."""
    path = (
        str(here)
        if isinstance(here, str) and here.startswith("/") and not here.startswith("//") and "\\" not in here
        else "/"
    )
    return RedirectResponse(path, 303)
