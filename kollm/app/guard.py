"""Lets in who carries the token, under this server's own names alone, and sets the headers of every answer."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from kollm.app.desk import Desk

COOKIE = "kollm_token"
LARGEST_FORM = 2_000_000
"""Bytes of a form that are read; a longer one is refused before it is parsed."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets in who carries the token, and sets the headers of every answer."""

    def __init__(self, app: Any, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._refusal(request)
        if refused is not None:
            for name, value in _HEADERS.items():
                refused.headers[name] = value
            await refused(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._desk.hosts:
            return HTMLResponse("This address is not served here.", 421)
        given = request.query_params.get("token")
        if given is not None:
            if not hmac.compare_digest(given.encode("utf-8"), self._desk.token.encode("utf-8")):
                return HTMLResponse("The link is not of this server - open the one that kollm app printed.", 403)
            rest = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
            answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
            answer.set_cookie(COOKIE, self._desk.token, httponly=True, samesite="strict")
            return answer
        cookie = request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(cookie.encode("utf-8"), self._desk.token.encode("utf-8")):
            return HTMLResponse("Open the link that kollm app printed: it carries the token of this server.", 403)
        if request.method == "POST":
            origin = request.headers.get("origin")
            if origin is not None and origin.partition("://")[2] not in self._desk.hosts:
                return HTMLResponse("Another page may not write here.", 403)
            if (
                not request.headers.get("content-length", "0").isdigit()
                or int(request.headers.get("content-length", "0")) > LARGEST_FORM
            ):
                return HTMLResponse(f"The form is too large: {LARGEST_FORM:,} bytes are read at most.", 413)
        return None
