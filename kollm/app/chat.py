"""Chat: a conversation with one system or two beside each other; what goes wrong in it becomes data with one click."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from kollm.app.room import ChatRoom
from kollm.app.visit import Visit, as_number
from kollm.core.errors import InputError

LONGEST_MESSAGE = 100_000


async def chat(visit: Visit) -> Response:
    if not visit.who:
        return visit.render("who.html.jinja", name="chat")
    room = _room(visit)
    return visit.render(
        "chat.html.jinja",
        names=[speaker.name for speaker in room.speakers],
        talks=room.talks(visit.person()),
        notes=str(room.notes),
        longest=LONGEST_MESSAGE,
    )


async def chat_say(visit: Visit) -> Response:
    """Stream an answer as plain text; the page sets it as text."""
    room, who, form = _room(visit), visit.person(), await visit.form()
    number = _number(visit, form)
    message = str(form.get("message", "")).replace("\r\n", "\n")
    talk = room.talks(who)[number]
    if form.get("again"):
        message = talk.take_back()
    if not message.strip() or len(message) > LONGEST_MESSAGE:
        return PlainTextResponse(f"[Write something of at most {LONGEST_MESSAGE:,} characters.]", 400)
    return StreamingResponse(room.answer(who, number, message), media_type="text/plain; charset=utf-8")


async def chat_system(visit: Visit) -> Response:
    """Set the system message and begin anew."""
    room, form = _room(visit), await visit.form()
    for talk in room.talks(visit.person()):
        talk.system = str(form.get("system", "")).replace("\r\n", "\n")[:LONGEST_MESSAGE]
        talk.exchanges.clear()
    return RedirectResponse("/chat", 303)


async def chat_row(visit: Visit) -> Response:
    room, form = _room(visit), await visit.form()
    room.save_row(visit.person(), _number(visit, form))
    return RedirectResponse("/chat", 303)


async def chat_pair(visit: Visit) -> Response:
    """A correction, or the other speaker's answer where that was chosen."""
    room, who, form = _room(visit), visit.person(), await visit.form()
    number = _number(visit, form)
    better = str(form.get("better", "")).replace("\r\n", "\n")
    if form.get("other"):
        others = [talk for index, talk in enumerate(room.talks(who)) if index != number and talk.exchanges]
        if not others or not room.talks(who)[number].exchanges:
            raise InputError("Both have to answer before one of them is the better.")
        if others[0].exchanges[-1].user != room.talks(who)[number].exchanges[-1].user:
            raise InputError("The two last answers are to different messages - ask both the same first.")
        better = others[0].exchanges[-1].answer
    room.save_pair(who, number, better)
    return RedirectResponse("/chat", 303)


def _room(visit: Visit) -> ChatRoom:
    if visit.desk.room is None:
        raise HTTPException(404)
    return visit.desk.room


def _number(visit: Visit, form: Any) -> int:
    number = as_number(str(form.get("number", "")))
    if number is None or number >= len(_room(visit).speakers):
        raise HTTPException(404)
    return number
