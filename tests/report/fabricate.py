"""Work folders as `kollm run` leaves them, made up from a seed: for tests and for looking at the page."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from kollm.core.files import json_line
from kollm.core.generations import Generation
from kollm.core.hashing import text_sha256
from kollm.core.verdicts import Status, Verdict
from kollm.judge.rubric_file import load_rubric

TASKS = [
    (
        "다음 문장을 더 간결하게 고쳐 쓰세요.",
        "제 요금에 대해 궁금한 점이 있거나 이 프로젝트의 범위를 조정해야 한다면 언제든지 알려 주시기 바랍니다.",
    ),
    ("서울에서 하루 동안 둘러볼 만한 곳을 세 군데 추천해 주세요.", ""),
    ("두 수의 최대공약수를 구하는 파이썬 함수를 작성하세요.", "48, 18"),
    ("다음 리뷰가 긍정인지 부정인지 한 단어로 답하세요.", "배송은 늦었지만 품질이 정말 좋아서 다시 살 것 같아요."),
    ("광합성이 무엇인지 초등학생에게 설명해 주세요.", ""),
    (
        "아래 표를 보고 가장 많이 팔린 과일을 고르세요.",
        "| 과일 | 판매량 |\n|---|---|\n| 사과 | 120 |\n| 배 | 85 |\n| 귤 | 240 |",
    ),
]
ANSWERS = [
    "궁금한 점이 있거나 프로젝트 범위를 바꾸고 싶으시면 알려 주세요.",
    "1. 경복궁: 조선 시대의 으뜸 궁궐입니다.\n2. 북촌 한옥마을: 골목을 따라 한옥이 이어집니다.\n3. 남산서울타워: 해가 질 무렵의 전망이 좋습니다.",
    "```python\ndef gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n```\n48과 18의 최대공약수는 6입니다.",
    "긍정",
    "식물이 햇빛을 받아 물과 공기 속 이산화탄소로 스스로 먹을 것을 만드는 일이에요. 이때 우리가 숨 쉬는 산소도 나온답니다.",
    "가장 많이 팔린 과일은 귤로, 모두 240개가 팔렸습니다.",
]


def make_work_folder(
    folder: Path,
    *,
    tasks: int = 24,
    systems: dict[str, float] | None = None,
    toy: bool = False,
    rubric: str = "kullm2023",
    mode: str = "text",
    model: str = "gpt-5.5-2026-04-23",
    failures: float = 0.04,
    seed: int = 0,
    answers: dict[tuple[str, int], str] | None = None,
) -> Path:
    """A whole work folder.

    Args:
        systems: name to strength in 0-1.
        failures: share of verdicts that are a parse error, a refusal, truncated or an API error.
        answers: (system, number of the task) to an answer of the test's own.
    """
    rng = random.Random(seed)
    for part in ("dataset", "adapter"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _write(folder / "run.json", _run(toy))
    _write(folder / "dataset" / "manifest.json", _manifest())
    _write(folder / "adapter" / "metrics.json", _metrics(rng))
    _write(folder / "adapter" / "training.json", {"versions": {"torch": "2.13.0"}, "hardware": {"device": "x86_64"}})
    with (folder / "generations.jsonl").open("w") as generations, (folder / "verdicts.jsonl").open("w") as verdicts:
        for system, strength in (systems or {"adapter": 0.7, "base": 0.35}).items():
            for number in range(tasks):
                response = (answers or {}).get((system, number)) or _answer(rng, number, strength)
                instruction, context = TASKS[number % len(TASKS)]
                reason = "length" if rng.random() < 0.25 * (1 - strength) else "stop"
                answer = Generation(
                    f"human_eval-{number}", instruction, context, response, "EleutherAI/polyglot-ko-5.8b",
                    "adapter" if system == "adapter" else "", {"num_beams": 4, "max_new_tokens": 400}, reason, system,
                )  # fmt: skip
                generations.write(json_line(answer.to_row()))
                verdicts.write(json_line(make_verdict(rng, answer, rubric, mode, model, strength, failures).to_row()))
    return folder


def make_verdict(
    rng: random.Random, answer: Generation, rubric: str, mode: str, model: str, strength: float, failures: float
) -> Verdict:
    known = load_rubric(rubric)
    scores: dict[str, float | None] = {}
    lines = []
    for axis in known.axes:
        drawn = axis.low + (axis.high - axis.low) * min(1.0, max(0.0, rng.gauss(strength, 0.28)))
        scores[axis.key] = float(round(drawn)) if mode != "local" else round(drawn, 4)
        lines.append(f"- {axis.label} ({axis.low} - {axis.high}): {scores[axis.key]:g}")
    status: Status = "ok"
    raw = "\n".join(lines)
    if rng.random() < failures:
        status = rng.choice(["parse_error", "refusal", "truncated", "api_error"])
        scores = dict.fromkeys(scores)
        raw = {"api_error": "", "refusal": "죄송하지만 이 응답은 평가할 수 없습니다."}.get(
            status, "응답은 대체로 자연스럽고"
        )
    return Verdict(
        answer.id, answer.system, text_sha256(answer.response), known.name, known.sha256, mode, 0, model, model, scores,
        status, raw, {"total_tokens": 700},
    )  # fmt: skip


def _answer(rng: random.Random, number: int, strength: float) -> str:
    draw = rng.random()
    if draw > strength + 0.5:
        return rng.choice(["", "I am not sure about that.", "네, 알겠습니다. " * 30])
    if draw > strength + 0.2:
        return ANSWERS[rng.randrange(len(ANSWERS))]
    return ANSWERS[number % len(ANSWERS)] + rng.choice(["", " 더 필요한 것이 있으면 말씀해 주세요."])


def _run(toy: bool) -> dict[str, Any]:
    stages = {"dataset": 3.1, "evaluation": 0.4, "base": 41.7, "adapter": 58.2, "answers": 37.9, "verdicts": 22.5}
    return {
        "kollm": "0.1.0",
        "toy": toy,
        "recipe": {
            "name": "demo",
            "base": {"model": "toy:gpt_neox" if toy else "EleutherAI/polyglot-ko-5.8b", "dtype": "bfloat16"},
            "data": {"sources": [{"name": "dolly", "input": "sample"}, {"name": "gpt4_llm", "input": "sample"}], "holdout": 0.05},
            "prompt": "kullm-2023",
            "adapter": {"method": "lora", "r": 16, "alpha": 32, "dropout": 0.05, "targets": ["query_key_value"]},
            "judge": {"engine": "local" if toy else "openai", "rubric": "kullm2023"},
        },
        "stages": {
            name: {"status": "done", "fingerprint": "sha256:" + "0" * 64, "seconds": seconds, "result": {"summary": f"{name} made"}}
            for name, seconds in stages.items()
        },
    }  # fmt: skip


def _manifest() -> dict[str, Any]:
    return {
        "kollm": "0.1.0",
        "sources": [
            {"name": "dolly", "revision": "sha256:ab12" + "0" * 60, "rows": 75},
            {"name": "gpt4_llm", "revision": "sha256:cd34" + "0" * 60, "rows": 115},
        ],
        "translator": {"name": "memory", "terms": ""},
        "rows": {"dolly": 71, "gpt4-llm": 109},
        "dropped": {"instruction_not_korean": 4, "output_empty": 6},
        "filters": "default",
        "turns": "conversation",
        "mode": "row",
        "characters": 0,
        "files": {},
    }


def _metrics(rng: random.Random) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    for step in range(1, 61):
        loss = 3.1 * 0.965**step + 1.4 + rng.gauss(0, 0.05)
        history.append({"step": step, "epoch": step / 20, "loss": round(loss, 4)})
    heldout = {"rows": 11, "conversations": 9, "tokens": 2210, "before": 4.412, "after": 1.867}
    return {
        "history": history,
        "heldout": heldout,
        "evaluations": [{"step": 20, "loss": 2.9, "tokens": 2210}, {"step": 40, "loss": 2.1, "tokens": 2210}],
        "samples": [
            {"step": step, "id": "dolly-3", "question": "<b>수도</b>는?", "response": f"{step}<script>"}
            for step in (20, 40)
        ],
        "shares": {
            "dolly": {"rows": 30, "tokens": 600, "supervised": 300},
            "own": {"rows": 10, "tokens": 1400, "supervised": 900},
        },
        "tokens": {"trained": 81234},
        "seconds": 58.2,
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
