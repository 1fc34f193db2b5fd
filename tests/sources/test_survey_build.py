"""`kollm data build NAME` for every instruction set of the survey, on a file in the set's own schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from kollm.cli import main
from kollm.cli.data import data
from kollm.cli.synthesize import synthesize
from kollm.dataset.folder import read_manifest, read_records
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.sources import SOURCES

ANSWER = {"output": "It is a plain answer to the question."}
ALPACA = {"instruction": "Name the longest river of Korea.", "input": "", **ANSWER}
KOREAN = {"instruction": "낙동강은 어디로 흐르나요?", "input": "", "output": "남해로 흘러 들어갑니다."}
QUESTION = {
    "id": "q1",
    "title": "강",
    "context": "낙동강은 남해로 흐른다.",
    "question": "낙동강은 어디로 흐르는가?",
    "answers": {"text": ["남해"], "answer_start": [6]},
}
CHAT = [
    {"from": "human", "value": "안녕하세요, 강 이야기를 해 주세요."},
    {"from": "gpt", "value": "네, 낙동강부터 말씀드리겠습니다."},
]
SELF_CHAT_ROW = {
    "id": "self_chat-0",
    "source": "self_chat",
    **KOREAN,
    "history": [["안녕하세요", "안녕하세요, 무엇이 궁금하신가요?"]],
    "lang": "ko",
    "licence": "LicenseRef-model-terms",
    "original": None,
    "provenance": {
        "revision": "", "index": 0, "route": "", "engine": "gpt-4", "mode": "", "attempt": 0, "characters": 0, "category": ""
    },
}  # fmt: skip

ROWS: dict[str, tuple[str, Any]] = {
    "natural_instructions": (
        "subtask1.json",
        {"Title": "Rivers", "Definition": "Name a river.", "Instances": [{"input": "Korea", "output": ["Nakdong"]}]},
    ),
    "super_natural_instructions": (
        "task1.json",
        {"Definition": ["Name a river."], "Instances": [{"id": "t1-0", "input": "Korea", "output": ["Nakdong"]}]},
    ),
    "p3": (
        "p3.jsonl",
        {"inputs_pretokenized": "Which river?", "targets_pretokenized": "Nakdong", "answer_choices": None},
    ),
    "flan": ("flan.jsonl", {"inputs": "Which river?", "targets": "Nakdong", "_task_name": "rivers"}),
    "self_instruct": ("si.jsonl", {"prompt": "Name a river.", "completion": "Nakdong"}),
    "alpaca": ("alpaca.json", [ALPACA]),
    "gpt4_llm": ("gpt4.json", [ALPACA]),
    "dolly": (
        "dolly.jsonl",
        {"instruction": "Name a river.", "context": "", "response": "Nakdong", "category": "open_qa"},
    ),
    "sharegpt": ("sg.json", [{"id": "a_0", "conversations": CHAT}]),
    "instruct_wild": ("instinwild_en.json", [ALPACA]),
    "open_platypus": ("op.jsonl", {**ALPACA, "data_source": "ARB"}),
    "kullm_v2": ("kullm-v2.jsonl", {"id": "alpaca_0", **KOREAN}),
    "koalpaca_v1": ("ko.json", [KOREAN]),
    "koalpaca_v1_1": ("ko.jsonl", {"instruction": KOREAN["instruction"], "output": KOREAN["output"], "url": "x"}),
    "sharegpt_ko": ("ko_dataset_2.json", [{"id": "a_0", "conversations": CHAT}]),
    "kopen_platypus": ("kp.jsonl", KOREAN),
    "korquad": ("korquad.jsonl", QUESTION),
    "ai_hub": ("ai.json", {"data": [{"sn": "1", "ko": "강이 길다.", "en": "The river is long."}]}),
    "kisti": ("kisti.jsonl", {"doc_id": "k1", "sentence": "성능이 올랐다.", "tag": "성능/효과"}),
    "synthetic": ("rows.jsonl", SELF_CHAT_ROW),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_command_builds_a_dataset(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, content = ROWS[name]
    path = tmp_path / file
    text = json.dumps(content, ensure_ascii=False)
    path.write_text(text + ("\n" if file.endswith(".jsonl") else ""), encoding="utf-8")
    source = SOURCES[name]
    english = ["--translator", "none", "--filters", "none"] if source.lang == "en" else []
    output = tmp_path / "dataset"
    main(["data", "build", name, "--input", str(path), "--against", "none", *english, "-o", str(output)])
    assert f"{source.config}: 1 row" in capsys.readouterr().out
    (record,) = read_records(output, source.config)
    assert record.source == name and record.id.startswith(name if name != "synthetic" else "self_chat-0")
    assert record.lang == source.lang and record.licence and record.output.strip()
    manifest = read_manifest(output)
    assert manifest["sources"][0]["revision"].startswith("sha256:")
    card = (output / "README.md").read_text(encoding="utf-8")
    assert source.title in card and (not source.terms or source.terms[:40] in " ".join(card.split()))


def test_each_source_of_a_build_has_a_limit_of_its_own(tmp_path: Path) -> None:
    inputs = [SourceInput("dolly", "sample", limit=7), SourceInput("gpt4_llm", "sample")]
    report = build_dataset(inputs, output=tmp_path / "data", limit=20, near=1.01, against=())
    assert sum(report.rows.values()) + sum(report.dropped.values()) == 27
    sources = read_manifest(tmp_path / "data")["sources"]
    assert [(item["rows"], item.get("limit")) for item in sources] == [(7, 7), (20, None)]


@pytest.mark.parametrize("page", ["survey.md", "survey.ko.md"])
def test_the_survey_page_has_a_row_for_every_set_with_a_command_that_exists(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`kollm data build ([a-z0-9_]+)", text))
    assert named == set(SOURCES) - {"human_eval"}
    options = {option for command in (data, *synthesize.commands.values()) for option in _options(command)}
    commands = " ".join(re.findall(r"`(kollm data [^`]+)`", text))
    assert set(re.findall(r"(?<= )--[a-z-]+", commands)) <= options


def _options(command: click.Command) -> set[str]:
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    return {name for each in commands for parameter in each.params for name in parameter.opts}


def test_every_source_is_built_here_but_the_evaluation_tasks() -> None:
    assert set(SOURCES) - set(ROWS) == {"human_eval"}
