"""What other tools make of what is published: servers that pass role and content alone still format as training did."""

from __future__ import annotations

import pytest

from kollm.recipe.prompt import PromptTemplate

INSTRUCTION, CONTEXT = "다음 문장을 요약하세요.", "오늘은 날씨가 맑고 바람이 불었다."
HISTORY = (("안녕하세요?", "네, 안녕하세요."),)


@pytest.mark.parametrize("name", ["kullm-2023", "kullm-v2"])
def test_an_input_in_the_message_is_the_input(name: str) -> None:
    template = PromptTemplate.load(name)
    inside = {"role": "user", "content": f"{INSTRUCTION}\n\n### 입력:\n{CONTEXT}"}
    assert template.render([inside], add_generation_prompt=True) == template.prompt(INSTRUCTION, CONTEXT)
    turns = [{"role": "user", "content": HISTORY[0][0]}, {"role": "assistant", "content": HISTORY[0][1]}, inside]
    assert template.render(turns, add_generation_prompt=True) == template.prompt(INSTRUCTION, CONTEXT, HISTORY)
    assert template.prompt(INSTRUCTION) == template.render(
        [{"role": "user", "content": INSTRUCTION}], add_generation_prompt=True
    )
