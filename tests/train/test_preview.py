"""What `kollm preview` shows: every token once, the loss marked, and counts over all rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError
from kollm.core.preferences import Preference
from kollm.core.records import Record
from kollm.dataset.folder import PREFERENCES, DatasetWriter, Part, read_records
from kollm.dataset.preferences import preference_table
from kollm.recipe.load import parse_recipe
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import Recipe
from kollm.run.data import training_rows
from kollm.train.preview import make_pair_preview, make_preview, preview_tokenizer
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
        "cut: history of 1 row, input of 1, answer of 1 (its end is not learned then)",
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


PAIR = Preference(
    "pair-1",
    "s",
    "서울은?",
    "한강이",
    "대한민국의 수도이며 한강이 도시를 가로지릅니다.",
    "몰라.",
    (("안녕하세요?", "네."),),
    "친절하게.",
)


def write_pairs(folder: Path, pairs: list[Preference]) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write(Part(PREFERENCES, "train"), preference_table(pairs))
        writer.publish({"sources": []}, "---\nlicense: mit\n---\n# Pairs of a test\n")
    return folder


def test_of_a_pair_the_prompt_is_shown_once_and_each_answer_with_its_mask() -> None:
    shown = make_pair_preview(recipe(method="dpo", prompt="kullm-2023"), [PAIR], TOKENIZER, rows=3)
    (pair,) = shown.pairs.values()
    prompt = TEMPLATE.prompt(PAIR.instruction, PAIR.input, PAIR.history, EOS, PAIR.system)
    assert pair.prompt == [(prompt, False)], "the earlier answer is context"
    assert pair.chosen == [(f"{PAIR.chosen}{EOS}", True)]
    assert pair.rejected == [(f"{PAIR.rejected}{EOS}", True)]
    (example,) = shown.tokenised.examples
    told = shown.summary()
    assert told[0].startswith(f"1 pair, {shown.tokenised.tokens:,} tokens, {example.supervised:,} (")
    assert told[1].endswith("rejected ones 8; the chosen one is longer in 0 of 1")
    assert "1 system message went before the instruction, since the prompt has no place for them" in told


def test_pairs_that_are_cut_or_left_out_are_counted_over_all() -> None:
    length = len(TOKENIZER(TEMPLATE.text(PAIR.record()))["input_ids"]) + 1
    pairs = [
        PAIR,
        replace(PAIR, id="long-answer", chosen="물은 " * 200),
        replace(PAIR, id="long-question", instruction="물은 " * 300, history=()),
        replace(PAIR, id="alike", chosen="물은 " * 200 + "끝", rejected="물은 " * 200),
    ]
    shown = make_pair_preview(recipe(method="dpo", trainer={"max_length": length}), pairs, TOKENIZER, rows=1)
    assert list(shown.pairs) == ["pair-1"]
    assert shown.summary()[3] == (
        "dropped, because an answer has no room: 1; because the answers are alike once they are cut: 1"
    )
    assert [example.id for example in shown.tokenised.examples] == ["pair-1", "long-answer"]


def test_prompts_that_differ_stand_with_their_answers() -> None:
    """A template that opens a reasoning: the answer that has one goes on from there, and the other does not."""
    opens = (
        "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '<e>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant:생각' }}{% endif %}"
    )
    tokenizer = train_tokenizer(["생 각 서울 수도"] * 3, 300)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>", "<e>"]})
    tokenizer.chat_template = opens
    thinking = Preference("one", "s", "서울", "", "생각한 수도", "몰라")
    (pair,) = make_pair_preview(recipe(method="dpo", prompt="chat"), [thinking], tokenizer, 1).pairs.values()
    assert pair.prompt == []
    assert [span.text for span in pair.chosen] == ["<s>user:서울<e><s>assistant:생각", "한 수도<e>"]
    assert [span.text for span in pair.rejected] == ["<s>user:서울<e><s>assistant:", "몰라<e>"]


def test_the_command_shows_the_answers_below_each_other_where_there_is_no_terminal(
    recipe_file: Path, base: Path, tmp_path: Path
) -> None:
    folder = write_pairs(tmp_path / "pairs", [PAIR])
    shown = command(recipe_file, folder, base, "--set", "method=dpo", "--set", "data.holdout=0")
    assert f"[chosen] ⟦{PAIR.chosen}{EOS}⟧\n[rejected] ⟦{PAIR.rejected}{EOS}⟧\n---\n1 pair, " in shown
    assert shown.count("서울은?") == 1 and shown.startswith("--- pair-1\n")


@pytest.mark.parametrize("colour", [True, False])
def test_the_command_shows_the_answers_beside_each_other_on_a_terminal(
    recipe_file: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "83")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    long = replace(PAIR, chosen="수도입니다. " * 9 + "\n끝\t맺음", rejected="몰라.")
    folder = write_pairs(tmp_path / "pairs", [long])
    shown = command(recipe_file, folder, base, "--set", "method=dpo", "--set", "data.holdout=0")
    lines = shown.partition("[chosen]")[2].partition("---\n")[0].splitlines()[1:]
    assert any("\x1b[32m" in line for line in lines) == colour
    plain = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]
    columns = [line.split(" │ ") for line in plain]
    assert all(len(sides) == 2 for sides in columns)
    assert {sum(2 if "가" <= sign <= "힣" else 1 for sign in left) for left, _ in columns} == {40}, "40 cells each"
    left, right = ("".join(side.rstrip() for side in sides) for sides in zip(*columns, strict=True))
    marks = ("", "") if colour else ("⟦", "⟧")
    assert right == f"{marks[0]}몰라.{EOS}{marks[1]}"
    assert left.replace(" ", "") == f"{marks[0]}{'수도입니다.' * 9}끝맺음{EOS}{marks[1]}"


def test_own_pairs_are_shown_and_a_recipe_of_several_datasets_is_refused(
    recipe_file: Path, base: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"질문": "서울은?", "좋음": "수도입니다.", "나쁨": "몰라."}\n', encoding="utf-8")
    said = ["--map", "instruction=질문", "--map", "chosen=좋음", "--map", "rejected=나쁨", "--set", "data.holdout=0"]
    shown = command(recipe_file, own, base, "--set", "method=simpo", *said)
    assert f"[chosen] ⟦수도입니다.{EOS}⟧\n[rejected] ⟦몰라.{EOS}⟧" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.jsonl"], "nothing is left behind"
    mapped = tmp_path / "mapped.yaml"
    part = {"dataset": str(own), "map": {"instruction": "질문", "chosen": "좋음", "rejected": "나쁨"}}
    values = yaml.safe_load(recipe_file.read_text()) | {"method": "dpo", "data": {"holdout": 0, "datasets": [part]}}
    mapped.write_text(yaml.safe_dump(values, allow_unicode=True))
    done = CliRunner().invoke(cli, ["preview", str(mapped), "--base", str(base)], catch_exceptions=False)
    assert f"[rejected] ⟦몰라.{EOS}⟧" in done.output
    twice = ["preview", str(mapped), "--dataset", str(own), "--dataset", str(own)]
    with pytest.raises(InputError, match="The method dpo trains on one dataset of pairs"):
        CliRunner().invoke(cli, twice, catch_exceptions=False)
    with pytest.raises(InputError, match="The method dpo needs pairs, and none are named - name them with --dataset"):
        CliRunner().invoke(cli, ["preview", str(recipe_file), "--set", "method=dpo"], catch_exceptions=False)


def test_the_pairs_of_a_run_are_shown_with_the_step_of_its_recipe(tmp_path: Path) -> None:
    pairs = [replace(PAIR, id=f"pair-{number}", instruction=f"{number}번 서울은?") for number in range(40)]
    folder = write_pairs(tmp_path / "pairs", pairs)
    line = ["preview", "demo-dpo", "--dataset", str(folder), "--rows", "1"]
    done = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert done.exit_code == 0 and "[rejected] ⟦몰라." in done.output


def test_pairs_for_a_supervised_recipe_are_refused_with_what_to_say(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", [PAIR])
    with pytest.raises(InputError, match=r"holds preferences.*by a method that takes pairs, such as dpo"):
        CliRunner().invoke(cli, ["preview", "demo", "--dataset", str(folder)], catch_exceptions=False)
