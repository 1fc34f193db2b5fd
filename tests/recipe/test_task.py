"""Task templates: every shipped phrasing renders, and the choice depends on seed, task and row id alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.recipe.task import load_task, task_names

VALUES = {
    "context": "한라산은 제주도에 있는 산으로 높이는 1,947m이다.",
    "question": "한라산의 높이는?",
    "answer": "1,947m",
    "title": "한라산",
    "text": "배송이 빨라서 좋았어요.",
    "label": "긍정",
    "choices": "긍정, 부정",
    "document": "시는 내년부터 버스 노선을 넓힌다. 새 노선은 세 개다.",
    "summary": "시가 내년에 버스 노선 세 개를 늘린다.",
    "source": "Good morning.",
    "target": "좋은 아침입니다.",
    "source_language": "영어",
    "target_language": "한국어",
}


@pytest.mark.parametrize("name", task_names())
def test_every_phrasing_renders_whole(name: str) -> None:
    task = load_task(name)
    rendered = task.render(VALUES, "row-1", count=99)
    assert len(task.phrasings) >= 4
    assert sorted(item.phrasing for item in rendered) == list(range(1, len(task.phrasings) + 1))
    for item in rendered:
        assert "{" not in item.instruction + item.input + item.output
        assert item.instruction.strip() and item.output.strip()
    assert len({(item.instruction, item.input) for item in rendered}) == len(rendered)


def test_the_choice_is_fixed_by_seed_and_id_and_spreads_over_the_phrasings() -> None:
    task = load_task("reading_comprehension")
    chosen = [task.render(VALUES, f"row-{index}", seed=3)[0].phrasing for index in range(300)]
    assert chosen == [task.render(VALUES, f"row-{index}", seed=3)[0].phrasing for index in range(300)]
    assert chosen != [task.render(VALUES, f"row-{index}", seed=4)[0].phrasing for index in range(300)]
    assert all(30 <= chosen.count(number) <= 70 for number in range(1, len(task.phrasings) + 1))


def test_a_phrasing_whose_field_is_missing_is_not_chosen() -> None:
    task = load_task("classification")
    bare = {"text": VALUES["text"], "label": VALUES["label"], "choices": "  "}
    assert [item.phrasing for item in task.render(bare, "row", count=9)] == [5]
    assert task.render({"text": "글"}, "row") == []


def test_braces_in_the_data_are_left_alone() -> None:
    rendered = load_task("summarization").render({"document": "{summary} {x} {0}", "summary": "끝 {document}"}, "row")[
        0
    ]
    assert rendered.input == "{summary} {x} {0}"
    assert rendered.output == "끝 {document}"


def test_a_task_of_the_users_own_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "nli.yaml"
    path.write_text("title: 추론\nphrasings:\n- {instruction: '{a}와 {b}?', output: '{c}'}\n", encoding="utf-8")
    task = load_task(str(path))
    assert (task.name, task.fields) == ("nli", ("a", "b", "c"))
    assert task.render({"a": "1", "b": "2", "c": "3"}, "x")[0][:3] == ("1와 2?", "", "3")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("title: 추론\nphrasing: []\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"wrong\.yaml.*phrasing"):
        load_task(str(wrong))
    with pytest.raises(InputError, match="There is no task 'nothing' - use one of classification"):
        load_task("nothing")
    (tmp_path / "text.yaml").write_text("just text", encoding="utf-8")
    with pytest.raises(InputError, match="holds a text, not keys and values"):
        load_task(str(tmp_path / "text.yaml"))
