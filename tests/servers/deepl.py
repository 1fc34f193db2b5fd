"""A loopback DeepL: strict about what DeepL documents, deterministic, and faulty on demand.

It enforces the key, 50 texts, 128 KiB, well-formed XML, custom instructions and the quota; it bills source code points
without tags; it answers with a pseudo-Korean that keeps tags, digits and punctuation, and joins lines, as DeepL's
next-generation models do (its documentation of structured content: `split_sentences` is ignored, `nonewlines` used).
Faults are queued one a request.

To try kollm's DeepL engine without a key:

    python -m tests.servers.deepl --port 8765
    export DEEPL_AUTH_KEY=loopback-key DEEPL_SERVER_URL=http://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from tests.servers.loopback import JsonHandler, Loopback

KEY = "loopback-key"
SYLLABLES = (
    "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후기니디리미비시이지치키티피히"
)
LINE_BREAKS = re.compile(r"\s*\n\s*")
MARKUP_OR_WORD = re.compile(r"<[^<>]*>|&\w+;|[A-Za-z][A-Za-z']*([.!?]?)")


def pseudo_korean(markup: str) -> str:
    """Each word becomes one to three syllables; a word before a full stop ends politely; line breaks become spaces."""

    def word(match: re.Match[str]) -> str:
        if match.group()[0] in "<&":
            return match.group()
        code = zlib.crc32(match.group().lower().rstrip(".!?").encode())
        syllables = "".join(SYLLABLES[(code >> shift) % len(SYLLABLES)] for shift in (0, 8, 16)[: 1 + code % 3])
        ending = {".": "습니다.", "!": "습니다!", "?": "습니까?"}.get(match.group(1) or "", "")
        return syllables + ending

    return LINE_BREAKS.sub(" ", MARKUP_OR_WORD.sub(word, markup))


@dataclass
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: answer with this status; 0 for none.
        retry_after: value of the header Retry-After.
        hang_up: `before` or `after` translating and billing; the connection closes without an answer.
        delay: seconds before the answer.
        spoil: changes the translated texts.
        body: what is sent in place of the answer, after billing.
    """

    status: int = 0
    retry_after: str | None = None
    hang_up: str = ""
    delay: float = 0.0
    spoil: Callable[[list[str]], list[str]] | None = None
    body: str | None = None


@dataclass
class State:
    """What the server counts; `lock` guards it."""

    limit: int = 500_000_000
    latency: float = 0.0
    rate: float | None = None
    used: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    usage_requests: int = 0
    billed_texts: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    faults: deque[Fault | None] = field(default_factory=deque)
    spoil: Callable[[list[str]], list[str]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: float = 5.0
    refilled: float = field(default_factory=time.monotonic)

    def take_token(self, now: float) -> bool:
        """A token bucket of `rate` a second that holds five."""
        if self.rate is None:
            return True
        self.tokens = min(5.0, self.tokens + (now - self.refilled) * self.rate)
        self.refilled = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class DeepLServer(Loopback):
    """Serve on a free port of the loopback interface, or on `port`; use as a context manager."""

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self.state = State(**settings)
        state = self.state

        class Handler(_Handler):
            pass

        Handler.state = state
        super().__init__(Handler, port=port)

    @property
    def url(self) -> str:
        return self.origin


class _Handler(JsonHandler):
    state: State

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._authorized():
            return
        if self.path == "/v2/usage":
            self._usage()
        elif self.path == "/v2/translate":
            self._translate(body)
        else:
            self._send(404, {"message": "Not found"})

    def do_GET(self) -> None:
        if self._authorized():
            self._usage() if self.path == "/v2/usage" else self._send(404, {"message": "Not found"})

    def _authorized(self) -> bool:
        if self.headers.get("Authorization") == f"DeepL-Auth-Key {KEY}":
            return True
        self._send(403, {"message": "Forbidden"})
        return False

    def _usage(self) -> None:
        with self.state.lock:
            self.state.usage_requests += 1
            answer = {"character_count": self.state.used, "character_limit": self.state.limit}
        self._send(200, answer)

    def _translate(self, body: bytes) -> None:
        state, arrived = self.state, time.monotonic()
        with state.lock:
            fault = (state.faults.popleft() if state.faults else None) or Fault()
            over = not state.take_token(arrived)
        if over:
            return self._refuse(429, "Too many requests", retry_after="0.05")
        if fault.status:
            return self._refuse(fault.status, "A fault that was asked for", retry_after=fault.retry_after)
        if fault.hang_up == "before":
            return self._hang_up()
        problem = _problem(body)
        if problem:
            return self._refuse(*problem)
        request = json.loads(body)
        texts = request["text"]
        billed = [len(_visible(text)) for text in texts]
        with state.lock:
            if state.used + sum(billed) > state.limit:
                quota = True
            else:
                quota = False
                state.used += sum(billed)
                state.billed_texts.update(texts)
                state.requests.append(request)
        if quota:
            return self._refuse(456, "Quota Exceeded")
        answers = [pseudo_korean(text) for text in texts]
        for spoil in (state.spoil, fault.spoil):
            answers = spoil(answers) if spoil else answers
        time.sleep(max(0.0, state.latency + fault.delay - (time.monotonic() - arrived)))
        if fault.hang_up == "after":
            return self._hang_up()
        if fault.body is not None:
            return self.reply(200, fault.body.encode("utf-8", "surrogatepass"))
        self._send(
            200,
            {
                "translations": [
                    {
                        "detected_source_language": "EN",
                        "text": text,
                        "billed_characters": count,
                        "model_type_used": request.get("model_type", "quality_optimized"),
                    }
                    for text, count in zip(answers, billed, strict=True)
                ]
            },
        )

    def _refuse(self, status: int, message: str, retry_after: str | None = None) -> None:
        with self.state.lock:
            self.state.refused[status] += 1
        self._send(status, {"message": message}, retry_after)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, answer: dict[str, Any], retry_after: str | None = None) -> None:
        self.reply(status, answer, {} if retry_after is None else {"Retry-After": retry_after})


def _problem(body: bytes) -> tuple[int, str] | None:
    """The status and message with which DeepL refuses such a body; None if it takes it."""
    if len(body) > 128 * 1024:
        return 413, "Request size exceeds 128 KiB"
    try:
        request = json.loads(body)
    except ValueError:
        return 400, "Invalid JSON"
    texts = request.get("text")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return 400, "Parameter 'text' not specified"
    if len(texts) > 50:
        return 400, "Too many texts"
    if request.get("target_lang") != "KO":
        return 400, "Value for 'target_lang' not supported"
    instructions = request.get("custom_instructions") or []
    if len(instructions) > 10 or any(len(item) > 300 for item in instructions):
        return 400, "Too many or too long custom instructions"
    if instructions and request.get("model_type") == "latency_optimized":
        return 400, "Custom instructions need a quality_optimized model"
    if request.get("tag_handling") == "xml":
        for text in texts:
            try:
                text.encode("utf-8")
                ElementTree.fromstring(text)
            except (ElementTree.ParseError, UnicodeEncodeError) as error:
                return 400, f"Tag handling parsing failed: {error}"
    return None


def _visible(markup: str) -> str:
    return "".join(ElementTree.fromstring(markup).itertext())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    options = parser.parse_args()
    with DeepLServer(port=options.port, latency=options.latency, rate=options.rate) as server:
        print(f"export DEEPL_AUTH_KEY={KEY} DEEPL_SERVER_URL={server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
