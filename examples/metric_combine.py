"""Two rubrics in one call of `evaluate.combine`: the paper's six axes, and KULLM3's five.

    OPENAI_API_KEY=... python examples/metric_combine.py

Each answer is asked about once a rubric, and never again: the replies stand in the ledger.
"""

from __future__ import annotations

import evaluate

import kollm

MODEL = "gpt-5.4-mini-2026-03-17"


def main() -> None:
    judges = [evaluate.load(kollm.metric_path(), rubric, model=MODEL) for rubric in ("kullm2023", "kullm3")]
    both = evaluate.combine(judges, force_prefix=True)
    scores = both.compute(
        predictions=["서울입니다.", "1443년에 만들어졌습니다."],
        instructions=["한국의 수도는 어디인가요?", "훈민정음은 언제 만들어졌나요?"],
        inputs=["", ""],
    )
    for name, value in scores.items():
        if isinstance(value, float):
            print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    main()
