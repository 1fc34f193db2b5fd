"""Every command that pays, in small: its arguments, what it needs, and a service that answers it.

`benchmarks/two_processes.py` runs two of each at once, and `test_two_processes.py` a quicker form of the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.files import json_line, write_json
from kollm.core.records import Original, Record
from tests.judge.conftest import REPLY, answers
from tests.servers.chat import Raw, completion
from tests.servers.deepl import KEY
from tests.synthesize.test_self_instruct import model as self_instructing
from tests.train.conftest import write_dataset

MODEL = "gpt-5.4-mini-2026-03-17"
AT_ONCE = 4

Model = Callable[[dict[str, Any]], Any]


class Paying(NamedTuple):
    """A command that pays a chat service.

    Attributes:
        line: its arguments; `{n}` is the number of the process. What it reads is made by `inputs`.
        model: what the service answers.
        cap: USD that are not enough for all of it, where the service bills as `billed` says.
    """

    line: str
    model: Model
    cap: float


def billed(model: Model) -> Model:
    """The same service, which bills half the tokens that it was allowed."""

    def answer(body: dict[str, Any]) -> Raw:
        allowed = int(body.get("max_completion_tokens") or body["max_tokens"])
        usage = {"prompt_tokens": 100, "completion_tokens": allowed // 2, "total_tokens": 100 + allowed // 2}
        said = model(body)
        text = said if isinstance(said, str) else said.text
        return Raw(200, completion(body["model"], message={"content": text}, usage=usage))

    return answer


def _says(text: str) -> Model:
    return lambda _: text


def _echoes(body: dict[str, Any]) -> str:
    return json.dumps({"document": body["messages"][-1]["content"]})


CHAT = "[사람] 안녕하세요?\n[비서] 네, 안녕하세요.\n[사람] 고마워요.\n[비서] 천만에요."
COMMANDS = {
    "judge": Paying(
        f"judge answers.jsonl -o v-{{n}}.jsonl --model {MODEL} --concurrency {AT_ONCE}", _says(REPLY), 0.02
    ),
    "pairs": Paying(
        f"judge answers.jsonl --against others.jsonl -o p-{{n}}.jsonl --model {MODEL} --concurrency {AT_ONCE}",
        _says("[[A]]"),
        0.012,
    ),
    "generate": Paying(
        f"generate --api {MODEL} --dataset tasks --max-new-tokens 64 -o g-{{n}}.jsonl",
        _says("답입니다."),
        0.004,
    ),
    "translation judge": Paying(
        f"data judge translated-{{n}} --model {MODEL} -o t-{{n}}.jsonl",
        _says('{"severity": "none", "why": "x"}'),
        0.018,
    ),
    "openai": Paying(
        f"data build alpaca --input alpaca.json --translator openai --model {MODEL} --filters none --near 1.01 -o o-{{n}}",
        _echoes,
        0.03,
    ),
    "self-instruct": Paying(
        f"data synthesize self-instruct --count 8 --model {MODEL} --concurrency {AT_ONCE} -o i-{{n}}.jsonl",
        self_instructing,
        0.012,
    ),
    "self-chat": Paying(
        f"data synthesize self-chat topics.txt --model {MODEL} --concurrency {AT_ONCE} -o c-{{n}}.jsonl",
        _says(CHAT),
        0.02,
    ),
    "regenerate": Paying(
        f"data synthesize regenerate tasks --all --model {MODEL} --concurrency {AT_ONCE} -o r-{{n}}.jsonl",
        _says("답입니다."),
        0.08,
    ),
}
"""What a chat service is paid for."""
DEEPL = "data build alpaca --input alpaca.json --translator deepl --filters none --near 1.01 -o d-{n}"
"""What DeepL is paid for."""


def inputs(folder: Path, count: int) -> None:
    """What the commands read: `count` answers, tasks, rows and topics."""

    def lines(name: str, system: str) -> None:
        rows = answers(count, system)
        (folder / name).write_text("".join(json_line(row.to_row()) for row in rows), encoding="utf-8")

    lines("answers.jsonl", "adapter")
    lines("others.jsonl", "other")
    (folder / "topics.txt").write_text("\n".join(f"주제 {n}" for n in range(count)), encoding="utf-8")
    rows = [
        {"instruction": f"Name {n} animals that live in lake number {n}.", "input": "", "output": f"There are {n} otters, {n} herons and {n} frogs in it."}
        for n in range(count)
    ]  # fmt: skip
    write_json(folder / "alpaca.json", rows)
    write_dataset(folder / "tasks", [Record(f"t-{n}", "own", f"질문 {n}?", "", "답", lang="ko") for n in range(count)])
    for number in (1, 2):
        translated = [
            Record(f"x-{n}", "alpaca", f"알려 주세요 {n}.", "", "답", lang="ko", original=Original("Tell me.", "", "An answer."))
            for n in range(count)
        ]  # fmt: skip
        card = "---\nlicense: mit\n---\n# Rows\n\n## Known limits\n\nNone.\n"
        write_dataset(folder / f"translated-{number}", translated, card)


def environment(folder: Path, url: str) -> dict[str, str]:
    """Of a process that pays: a ledger of the test's own, and the service on this machine."""
    return {
        "KOLLM_LEDGER": str(folder / "ledger.sqlite3"),
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": url,
        "DEEPL_AUTH_KEY": KEY,
        "DEEPL_SERVER_URL": url,
    }
