"""The commands: `kollm data synthesize ...` to a file, from there to a dataset; review, correct, build again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kollm.cli import main
from kollm.core.errors import InputError
from kollm.dataset.folder import read_manifest, read_records
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.synthesize.wording import load_wording
from tests.servers.chat import LoopbackChat, Said
from tests.servers.deepl import KEY, DeepLServer
from tests.synthesize import test_self_chat, test_self_instruct

KO = load_wording("ko")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")


def model(body: dict[str, Any]) -> Said | str | int:
    if "주제: " in body["messages"][0]["content"]:
        return test_self_chat.model(body)
    return test_self_instruct.model(body)


def synthesize(chat: LoopbackChat, *arguments: str) -> None:
    main(["data", "synthesize", *arguments, "--model", "gpt-4", "--base-url", chat.url])


def build(rows: Path, output: Path) -> None:
    main(["data", "build", "synthetic", "--input", str(rows), "--against", "none", "-o", str(output)])


def test_new_tasks_become_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    with LoopbackChat(model) as chat:
        synthesize(chat, "self-instruct", "--count", "4", "-o", str(rows), "--dry-run")
        assert chat.bodies == [] and not rows.exists()
        assert "if every new instruction is kept: 9 requests, 0 answered before" in capsys.readouterr().err
        synthesize(chat, "self-instruct", "--count", "4", "-o", str(rows), "--option", "temperature=0.3")
        assert {body["temperature"] for body in chat.bodies} == {0.3}
        assert f"{rows}: 4 rows" in capsys.readouterr().out
    build(rows, tmp_path / "dataset")
    records = list(read_records(tmp_path / "dataset", "synthetic"))
    assert len(records) == 4 and {record.source for record in records} == {"synthetic"}
    assert {record.id.rsplit("-", 1)[0] for record in records} <= {"self_instruct-0"}


def test_conversations_start_from_a_file_or_from_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topics, rows = tmp_path / "topics.txt", tmp_path / "chat.jsonl"
    topics.write_text("김치\n\n엉뚱\n", encoding="utf-8")
    with LoopbackChat(model) as chat:
        synthesize(chat, "self-chat", str(topics), "--turns", "2", "-o", str(rows))
        out = capsys.readouterr().out
        assert "dropped, no_conversation: 1" in out and f"{rows}: 1 row" in out
        build(rows, tmp_path / "dataset")
        synthesize(chat, "self-chat", str(tmp_path / "dataset"), "-o", str(tmp_path / "more.jsonl"))
    (record,) = read_records(tmp_path / "dataset")
    assert len(record.history) == 1
    more = json.loads((tmp_path / "more.jsonl").read_text(encoding="utf-8"))
    assert more["history"][0][0] == "김치에 대해 알려 주세요.에 대해 알려 주세요."


def test_rows_set_aside_by_routing_get_a_models_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "build", "dolly", "--input", "sample", "--against", "none", "-o", str(tmp_path / "dolly")])
    with LoopbackChat(lambda body: f"새 답: {body['messages'][-1]['content'][:10]}") as chat:
        rows = tmp_path / "rows.jsonl"
        synthesize(chat, "regenerate", str(tmp_path / "dolly"), "--all", "--limit", "3", "-o", str(rows))
    made = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(made) == 3 and all(row["output"].startswith("새 답: ") for row in made)
    assert all(row["original"]["instruction"] and row["provenance"]["route"] == "regenerate" for row in made)
    build(rows, tmp_path / "again")
    assert [record.id for record in read_records(tmp_path / "again")] == [row["id"] for row in made]


def test_koalpacas_way_translates_questions_alone_and_asks_a_model_for_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = "An answer in English, which is neither translated nor paid for."
    questions = ("Name three things that float.", "Why is the sky blue at noon?", "Suggest a dish with potatoes.")
    rows = [{"instruction": question, "input": "", "output": f"{question} {answer}"} for question in questions]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows), encoding="utf-8")
    made = tmp_path / "rows.jsonl"
    with DeepLServer() as deepl:
        monkeypatch.setenv("DEEPL_SERVER_URL", deepl.url)
        monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
        options = ["--translator", "deepl", "--fresh-answers", "--against", "none", "-o", str(tmp_path / "asked")]
        main(["data", "build", "alpaca", "--input", str(tmp_path / "alpaca.json"), *options])
        assert deepl.state.used == sum(len(row["instruction"]) for row in rows)
    assert "left out, needs_fresh_answer: 3" in capsys.readouterr().out
    with LoopbackChat(lambda body: "나무와 배와 오리입니다. " + body["messages"][-1]["content"]) as chat:
        synthesize(chat, "regenerate", str(tmp_path / "asked"), "-o", str(made))
        assert not any("English" in json.dumps(body) for body in chat.bodies)
    build(made, tmp_path / "dataset")
    records = list(read_records(tmp_path / "dataset"))
    assert [record.id for record in records] == ["alpaca-0", "alpaca-1", "alpaca-2"]
    assert all(record.output.startswith("나무와 배와") and record.instruction in record.output for record in records)
    assert {record.provenance.engine for record in records} == {"deepl+gpt-4"}
    assert {record.licence for record in records} == {"CC-BY-NC-4.0"}


def test_fresh_answers_with_a_translator_that_cannot_leave_them_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The translator 'memory' translates no question apart from its answer"):
        build_dataset([SourceInput("dolly", "sample")], output=tmp_path / "d", fresh_answers=True, against=())
    assert not (tmp_path / "d").exists()


def test_annotated_rows_become_instructions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "reviews.jsonl"
    source.write_text('{"문장": "배송이 빨라요.", "답": "긍정"}\n{"문장": "별로예요."}\n', encoding="utf-8")
    rows = tmp_path / "rows.jsonl"
    options = ["--map", "text=문장", "--map", "label=답", "--set", "choices=긍정, 부정", "--phrasings", "2"]
    arguments = [str(source), "--task", "classification", *options, "--licence", "CC-BY-4.0", "-o", str(rows)]
    main(["data", "synthesize", "templates", *arguments])
    out = capsys.readouterr().out
    assert "dropped, field_missing: 1" in out and f"{rows}: 2 rows" in out
    build(rows, tmp_path / "dataset")
    assert {record.licence for record in read_records(tmp_path / "dataset")} == {"CC-BY-4.0"}


def test_korquads_own_file_fits_the_task_as_it_is(tmp_path: Path) -> None:
    answer = {"text": "남해", "answer_start": 5}
    questions = [{"id": "q", "question": "낙동강은 어디로 흐르는가?", "answers": [answer]}]
    article = {"title": "강", "paragraphs": [{"context": "낙동강은 남해로 흐른다.", "qas": questions}]}
    source, rows = tmp_path / "KorQuAD_v1.0_train.json", tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"version": "x", "data": [article]}), encoding="utf-8")
    arguments = [str(source), "--task", "reading_comprehension", "--phrasings", "9", "--licence", "CC-BY-ND-4.0"]
    main(["data", "synthesize", "templates", *arguments, "-o", str(rows)])
    made = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(made) == 6 and sum(row["output"] == "남해" for row in made) == 5


def test_a_reviewed_dataset_is_built_again_with_its_corrections_and_its_english(tmp_path: Path) -> None:
    english, korean = tmp_path / "en.json", tmp_path / "ko.json"
    pairs = [
        (
            "It costs 2.50 dollars to enter the park.",
            "공원에 들어가려면 250달러가 듭니다.",
            "공원 입장료를 다시 쓰세요.",
        ),
        ("Name two colours of the rainbow.", "무지개의 색을 두 가지 말해 보세요.", ""),
        ("Write 3.14 with words, please, and say why.", "314를 글자로 쓰고 이유를 말해 주세요.", ""),
    ]
    english.write_text(
        json.dumps([{"instruction": e, "input": "", "output": "Fine."} for e, _, _ in pairs]), encoding="utf-8"
    )
    korean.write_text(
        json.dumps([{"instruction": k, "input": "", "output": "좋습니다."} for _, k, _ in pairs]), encoding="utf-8"
    )
    command = ["data", "build", "alpaca", "--input", str(english), "--memory", str(korean), "--against", "none"]
    main([*command, "-o", str(tmp_path / "first")])
    review = tmp_path / "review.jsonl"
    main(["data", "review", str(tmp_path / "first"), "-o", str(review)])
    items = [json.loads(line) for line in review.read_text(encoding="utf-8").splitlines()]
    assert [item["id"] for item in items] == ["alpaca-0", "alpaca-2"]
    items[0]["corrected"] = {"instruction": pairs[0][2]}
    items[1]["decision"] = "drop"
    review.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    main([*command, "--corrections", str(review), "--keep-english", "-o", str(tmp_path / "second")])
    records = {record.id: record for record in read_records(tmp_path / "second")}
    assert list(records) == ["alpaca-0", "alpaca-0-en", "alpaca-1", "alpaca-1-en"]
    assert records["alpaca-0"].instruction == pairs[0][2]
    assert (records["alpaca-0-en"].instruction, records["alpaca-0-en"].lang) == (pairs[0][0], "en")
    manifest = read_manifest(tmp_path / "second")
    assert manifest["dropped"] == {"review": 1} and manifest["settings"]["corrections"].startswith("sha256:")
    assert manifest["flags"]["review_corrected"] == 1 and str(tmp_path) not in json.dumps(manifest)
