"""What `kollm preview` shows: every token once, the loss marked, and counts over all rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.dataset.folder import read_records
from kollm.recipe.load import parse_recipe
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import Recipe
from kollm.run.data import training_rows
from kollm.train.preview import make_preview, preview_tokenizer
from kollm.train.toy import make_recipe_base, train_tokenizer
from tests.train.conftest import SHAPE, row, write_dataset

TEMPLATE = PromptTemplate.load("kullm-2023")
TOKENIZER = train_tokenizer([TEMPLATE.text(row(number)) for number in range(12)], 900)
EOS = TOKENIZER.eos_token
TALK = Record("talk", "s", "셋?", "맥락", "답 셋", (("하나?", "답 하나"), ("둘?", "답 둘")))


def recipe(**changes: object) -> Recipe:
    values = {"base": {"model": "toy:gpt_neox"}, "trainer": {"max_length": 512}}
    return parse_recipe({**values, **changes}, "a test")


def test_the_spans_are_the_training_text_and_the_answers_are_marked() -> None:
    shown = make_preview(recipe(), {"s": [TALK, row(1)]}, TOKENIZER, rows=1)
    assert list(shown.rows) == ["talk"]
    spans = shown.rows["talk"]
    assert "".join(span.text for span in spans) == TEMPLATE.text(TALK)
    assert [span.text for span in spans if span.learned] == [f"답 하나{EOS}", f"답 둘{EOS}", f"답 셋{EOS}"]
    assert [span.learned for span in spans] == [False, True] * 3


def test_loss_all_is_shown_as_one_learned_span() -> None:
    (span,) = make_preview(recipe(loss="all"), {"s": [TALK]}, TOKENIZER, rows=1).rows["talk"]
    assert span == (TEMPLATE.text(TALK), True)


def test_the_counts_are_over_all_rows_not_the_shown_ones() -> None:
    length = len(TOKENIZER(TEMPLATE.text(row(1)))["input_ids"])
    rows = [
        row(1),
        Record("long-answer", "s", row(1).instruction, "", row(1).output + " 물은" * 50),
        Record("long-input", "s", "요약하세요.", "한강이 " * 200, "네."),
        Record("long-talk", "s", "네?", "", "네.", (("서울은 " * 100, "한강이"),)),
        Record("long-question", "s", "서울은 " * 300, "", "네."),
    ]
    shown = make_preview(recipe(trainer={"max_length": length}), {"s": rows}, TOKENIZER, rows=1)
    assert list(shown.rows) == ["dolly-1"]
    counted = {**shown.tokenised.counts, "boundary_merge": 0}
    assert counted == {
        "completion_cut": 1,
        "input_cut": 1,
        "history_cut": 1,
        "dropped": 1,
        "boundary_merge": 0,
    }
    assert len(shown.tokenised.examples) == 4
    assert shown.summary()[1:3] == [
        "cut: history of 1 rows, input of 1, answer of 1 (EOS kept)",
        "dropped, because no answer token fits: 1",
    ]


def test_a_token_across_the_boundary_is_counted() -> None:
    """As one text, the prompt's last newline and the answer's first would be one token."""
    glued = train_tokenizer(["가\n\n\n가" * 9] * 9, 300)
    merging = Record("merging", "s", "질문", "", "\n\n가")
    shown = make_preview(recipe(), {"s": [merging, Record("plain", "s", "질문", "", "가")]}, glued, rows=1)
    assert shown.summary()[3].startswith("rows where a token would have spanned prompt and answer: 1 ")
    assert shown.rows["merging"][-1].text == f"\n\n가{EOS}"


def test_heldout_rows_are_not_shown() -> None:
    from kollm.train.data import split_heldout

    rows = [row(number) for number in range(40)]
    shown = make_preview(recipe(data={"holdout": 0.5}), {"s": rows}, TOKENIZER, rows=40)
    assert set(shown.rows) == {record.id for record in split_heldout(rows, 0.5).train}


def command(recipe_file: Path, dataset: Path, base: Path, *extra: str) -> str:
    line = ["preview", str(recipe_file), "--dataset", str(dataset), "--base", str(base), *extra]
    done = CliRunner().invoke(cli, line, catch_exceptions=False, color=True)
    assert done.exit_code == 0
    return done.output


def test_the_command_marks_the_loss_by_brackets_where_there_is_no_terminal(
    recipe_file: Path, base: Path, tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "talk", [TALK])
    shown = command(recipe_file, folder, base, "--set", "data.holdout=0")
    body = shown.split("---\n")[0]
    assert re.findall(r"⟦(.*?)⟧", body, re.DOTALL) == [f"답 하나{EOS}", f"답 둘{EOS}", f"답 셋{EOS}"]
    assert "\x1b[" not in shown


def test_the_command_colours_the_loss_on_a_terminal(
    recipe_file: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    folder = write_dataset(tmp_path / "talk", [TALK])
    shown = command(recipe_file, folder, base, "--set", "data.holdout=0")
    assert re.findall("\x1b\\[32m(.*?)\x1b\\[0m", shown, re.DOTALL) == [f"답 하나{EOS}", f"답 둘{EOS}", f"답 셋{EOS}"]
    assert "⟦" not in shown


def test_the_command_shows_as_many_rows_as_asked(recipe_file: Path, dataset: Path, base: Path) -> None:
    shown = command(recipe_file, dataset, base, "--rows", "5")
    assert len(re.findall(r"^--- dolly-\d+$", shown, re.MULTILINE)) == 5
    train = len(list(read_records(dataset)))
    assert 0 < int(re.search(r"^(\d+) rows, ", shown, re.MULTILINE)[1]) < train  # type: ignore[index]


def test_a_recipe_alone_shows_its_own_data_with_the_tokenizer_that_its_toy_base_would_have(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["preview", "demo", "--rows", "1"], catch_exceptions=False)
    said = re.sub(r"^\w+: .* after \d+ s\n", "", done.stderr, flags=re.MULTILINE)  # progress, on a busy machine
    assert done.exit_code == 0 and said == ""
    assert re.search(rf"⟦.+{re.escape(EOS)}⟧", done.stdout, re.DOTALL) and "--- dolly-0" in done.stdout
    (counts,) = re.findall(r"^(\d+) rows, ([\d,]+) tokens", done.stdout, re.MULTILINE)
    assert counts[0] == "209"  # of 230, less the recipe's held-out tenth
    rows = [row(number) for number in range(40)]
    toy = recipe(base={"model": "toy:gpt_neox", "toy": SHAPE.model_dump() | {"pretrain_steps": 0}})
    make_recipe_base(toy, rows, tmp_path / "base")
    made = preview_tokenizer(toy, rows)
    assert made.get_vocab() == preview_tokenizer(toy, rows, tmp_path / "base").get_vocab()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sources": [{"name": "koalpaca_v1_1"}]}, "the data of mine is to be downloaded or translated first"),
        (
            {"sources": [{"name": "dolly", "input": "sample"}], "translator": "deepl"},
            "the data of mine is to be downloaded or translated first",
        ),
        ({"dataset": "org/none"}, "The dataset 'org/none' is not in the cache"),
        ({"sources": [{"name": "dolly", "input": "sample"}], "holdout": 0.1}, ""),
    ],
)
def test_data_that_is_not_here_is_replaced_by_the_sample_and_a_line_says_so(
    data: dict[str, object],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shown = training_rows(recipe(name="mine", data={"holdout": 0.002, **data}))
    said = capsys.readouterr().err
    assert (words in said and said.count("\n") == 1 and "bundled sample" in said) if words else said == ""
    assert {record.source for part in shown.parts.values() for record in part} == (
        {"dolly", "gpt4_llm", "sharegpt"} if words else {"dolly"}
    )
    assert shown.recipe.data.holdout == 0.1  # the share of 0.002 would hold out none of so few


def test_new_tokens_are_in_the_shown_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("가을하늘\n", encoding="utf-8")
    toy = recipe(base={"model": "toy:gpt_neox", "new_tokens": str(tmp_path / "words.txt")})
    assert preview_tokenizer(toy, [row(number) for number in range(12)]).tokenize("가을하늘") == ["가을하늘"]


def test_a_preference_recipe_is_refused_in_a_sentence(recipe_file: Path, dataset: Path) -> None:
    line = ["preview", str(recipe_file), "--dataset", str(dataset), "--set", "method=dpo"]
    with pytest.raises(InputError, match="has the method dpo, and preview shows rows of supervised training alone"):
        CliRunner().invoke(cli, line, catch_exceptions=False)
