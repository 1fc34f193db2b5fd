"""Files in forms that people bring: exports of other tools, spreadsheets, folders laid out for the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.sources.own import OwnOptions, read_own

Q, A = "환불은 되나요?", "네, 됩니다."
TURNS = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]


def tree(text: str, role: str, rank: int | None = None, replies: list[Any] | None = None) -> dict[str, Any]:
    return {"message_id": text, "text": text, "role": role, "rank": rank, "replies": replies or []}


def node(role: str, text: str, parent: str | None) -> dict[str, Any]:
    content = {"content_type": "text", "parts": [text]}
    return {"message": {"author": {"role": role}, "content": content} if role else None, "parent": parent}


CHATGPT = {"root": node("", "", None), "s": node("system", "", "root"), "u": node("user", Q, "s"), "a": node("assistant", A, "u"), "old": node("assistant", "옛 답", "u")}  # fmt: skip
LABEL_STUDIO = {"value": {"text": [A]}, "from_name": "answer", "to_name": "question", "type": "textarea"}

ROWS: dict[str, Any] = {
    "Argilla's records": {"id": "a", "fields": {"instruction": Q}, "responses": {"answer": [{"value": A, "user_id": "u"}]}, "suggestions": {}},
    "Argilla as a data set": {"prompt": Q, "response.responses": [A], "response.responses.users": ["u"], "quality.suggestion": "5"},
    "Label Studio's full export": {"id": 3, "data": {"question": Q}, "annotations": [{"was_cancelled": True, "result": []}, {"result": [LABEL_STUDIO]}]},
    "Label Studio's JSON-MIN": {"id": 3, "question": Q, "answer": A, "annotator": 1, "lead_time": 2.5},
    "LMSYS": {"conversation_id": "c", "model": "m", "conversation": TURNS, "turn": 1, "redacted": False},
    "OpenAssistant's trees": {"message_tree_id": "t", "prompt": tree(Q, "prompter", None, [tree("나쁜 답", "assistant", 1), tree(A, "assistant", 0)])},
    "ChatGPT's export": {"title": "t", "mapping": CHATGPT, "current_node": "a"},
    "Claude's export": {"uuid": "u", "chat_messages": [{"sender": "human", "text": Q}, {"sender": "assistant", "text": A}]},
    "OpenAI's preferences": {"input": {"messages": TURNS[:1], "tools": []}, "preferred_output": TURNS[1:], "non_preferred_output": [{"role": "assistant", "content": "아니요"}]},
    "HH": {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: 아니요"},
    "lists of roles and texts": {"conversations": {"from": ["human", "gpt"], "value": [Q, A]}},
    "Python's own text": {"messages": str(TURNS)},
    "an object inside": {"id": 1, "data": {"question": Q, "answer": A}, "meta": {"source": "x"}},
    "Q and A": {"번호": 1, "Q": Q, "A": A},
}  # fmt: skip


def read(path: Path, **options: Any) -> list[tuple[str, str]]:
    rows = list(read_own(path, OwnOptions(**options)).records())
    assert all(isinstance(row, Record) and not row.history for row in rows), rows
    return [(row.instruction, row.output) for row in rows if isinstance(row, Record)]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_an_export_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[name], ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(path) == [(Q, A)]


@pytest.mark.parametrize(
    "value",
    [
        {"version": "1", "result": [{"question": Q, "answer": A}]},
        {"first": {"question": Q, "answer": A}, "second": {"question": Q, "answer": A}},
        {"question": [Q, Q], "answer": [A, A]},
        {"question": {"0": Q, "1": Q}, "answer": {"0": A, "1": A}},
        {"columns": ["question", "answer"], "index": [0], "data": [[Q, A], [Q, A]]},
    ],
    ids=["a list under any name", "rows by id", "columns", "pandas' columns", "pandas' split"],
)
def test_a_file_that_is_one_object(value: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    assert set(read(path)) == {(Q, A)}


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.csv", f"question;answer\r\n{Q};{A}\r\n", "utf-8-sig"),
        ("a.csv", f'sep=;\r\nquestion;answer\r\n"{Q}";{A}\r\n', "cp949"),
        ("a.csv", f"question\tanswer\r\n{Q}\t{A}\r\n", "utf-16"),
        ("a.txt", f"question\tanswer\r\n{Q}\t{A}\r\n", "utf-16"),
        ("a.csv", f',question,answer\n0,"{Q}","{A}"\n', "utf-8"),
        ("a.csv", f'No, Question , Answer \n1,{Q},"{A}"\n', "utf-8"),
    ],
    ids=["semicolons", "sep=", "UTF-16 CSV", "Unicode text", "pandas with its index", "spaced names"],
)
def test_tables_as_spreadsheets_save_them(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read(tmp_path / name) == [(Q, A)]


def test_a_folder_laid_out_for_the_hub(tmp_path: Path) -> None:
    parts = {"chat/train-0.parquet": {"messages": TURNS}, "qa/train-0.parquet": {"question": Q, "answer": A}, "qa/test-0.parquet": {"question": "시험", "answer": A}}  # fmt: skip
    for name, row in parts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n" for name in ("chat", "qa")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n# x\n", encoding="utf-8")
    with pytest.raises(InputError, match="has several configs - name one with --hub-config: chat, qa"):
        read_own(tmp_path)
    assert read(tmp_path, config="chat") == [(Q, A)]
    assert read(tmp_path, config="qa") == [(Q, A)]
    (tmp_path / "README.md").write_text("---\n: : :\n---\n", encoding="utf-8")
    with pytest.raises(InputError, match="put them into two files"):
        read_own(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("a.txt", "홍길동 님과 카카오톡 대화\n저장한 날짜 : 2026-11-27\n[홍길동] [오후 3:12] 안녕\n", "is an export of KakaoTalk"),
        ("a.jsonl", [{"message_id": "m", "parent_id": None, "text": Q, "role": "prompter"}], "a message of a conversation tree a row"),
        ("a.jsonl", [{"text": f"<|im_start|>user\n{Q}<|im_end|>"}], "are conversations written out in a template"),
        ("a.jsonl", [{"title": "t", "paragraphs": [{"qas": []}]}], "'paragraphs' holds objects: write what lies inside as rows"),
        ("a.csv", f"질문을 적어 주세요.,답변을 적어 주세요.\n{Q},{A}\n", "--map 'instruction=질문을 적어 주세요.' --map 'output=답변을 적어 주세요.'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(name: str, rows: Any, words: str, tmp_path: Path) -> None:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_own(tmp_path / name)
    assert words in str(error.value)


def test_written_out_conversations_are_plain_text_where_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": f"[INST] {Q} [/INST]"}), encoding="utf-8")
    assert read(path, mapping=("text=text",)) == [("", f"[INST] {Q} [/INST]")]
