"""Records into tokens: what is learned, what is cut first, what is held out."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.tokens import TextEncoder
from kollm.train.data import IGNORED, split_heldout, tokenise
from kollm.train.preview import spans
from kollm.train.prompts import make_encoder
from kollm.train.toy import train_tokenizer

TEMPLATE = PromptTemplate.load("kullm-2023")
TEXTS = ["질문 대답 입력 지시어 응답 아래는 작업을 설명하는 명령어입니다. 가나다라마바사 abc <|endoftext|>"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 600)


def one(record, tokenizer, max_length=1024, loss="completion"):
    result = tokenise([record], TextEncoder(TEMPLATE, tokenizer), max_length=max_length, loss=loss)
    return result.examples[0] if result.examples else None, result.counts


def test_the_loss_covers_every_answer_and_its_eos_and_nothing_else(tokenizer):
    record = Record("a", "s", "질문 셋", "입력", "대답 셋", (("질문 하나", "대답 하나"), ("질문 둘", "대답 둘")))
    example, counts = one(record, tokenizer)
    learned = [span.text for span in spans(example, tokenizer) if span.learned]
    assert learned == ["대답 하나<|endoftext|>", "대답 둘<|endoftext|>", "대답 셋<|endoftext|>"]
    assert tokenizer.decode(example.input_ids.tolist()) == TEMPLATE.text(record)
    assert int((example.labels == tokenizer.eos_token_id).sum()) == 3
    assert not counts["history_cut"]


def test_loss_all_learns_the_prompt_too(tokenizer):
    example, _ = one(Record("a", "s", "질문", "", "대답"), tokenizer, loss="all")
    assert np.array_equal(example.labels, example.input_ids)


def test_the_prompt_tokens_are_those_that_generation_asks_with(tokenizer):
    record = Record("a", "s", "질문", "입력", "대답")
    example, _ = one(record, tokenizer)
    asked = tokenizer(TEMPLATE.prompt("질문", "입력"), add_special_tokens=False)["input_ids"]
    assert example.input_ids[: len(asked)].tolist() == asked
    assert (example.labels[: len(asked)] == IGNORED).all()


def test_text_from_the_data_never_becomes_a_special_token(tokenizer):
    example, _ = one(Record("a", "s", "질문<|endoftext|>", "", "대답<|endoftext|>계속"), tokenizer)
    assert example.input_ids.tolist().count(tokenizer.eos_token_id) == 1
    assert example.input_ids[-1] == tokenizer.eos_token_id


def test_truncation_takes_history_then_input_then_the_answer_with_its_eos(tokenizer):
    record = Record("a", "s", "질문", "입력 " * 40, "대답 " * 10, (("옛 질문", "옛 대답 " * 30),))
    full = len(one(record, tokenizer)[0].input_ids)
    without_history = len(one(replace(record, history=()), tokenizer)[0].input_ids)
    without_input = len(one(replace(record, history=(), input=""), tokenizer)[0].input_ids)

    example, counts = one(record, tokenizer, full - 1)
    assert (counts["history_cut"], counts["input_cut"], counts["completion_cut"]) == (1, 0, 0)
    assert len(example.input_ids) == without_history

    example, counts = one(record, tokenizer, without_history - 10)
    assert (counts["history_cut"], counts["input_cut"], counts["completion_cut"]) == (1, 1, 0)
    assert len(example.input_ids) <= without_history - 10
    assert "대답 " * 10 + "<|endoftext|>" in tokenizer.decode(example.input_ids.tolist())

    example, counts = one(record, tokenizer, without_input - 5)
    assert (counts["history_cut"], counts["input_cut"], counts["completion_cut"]) == (1, 1, 1)
    assert len(example.input_ids) == without_input - 5
    assert tokenizer.eos_token_id not in example.labels, "it would teach to stop in the middle"


def test_an_answer_is_cut_between_characters_at_whatever_length(tokenizer):
    """Rare syllables and emoji are several tokens each in a small vocabulary of bytes."""
    answer = "뷁쀍👩‍👩‍👧 똠방각하 🇰🇷 꽯흝 abc 𝔘 " * 3
    whole, _ = one(Record("a", "s", "질문", "", answer), tokenizer)
    prompt = len(whole.input_ids) - int((whole.labels != IGNORED).sum())
    ends = set()
    for length in range(prompt + 1, len(whole.input_ids)):
        example, counts = one(Record("a", "s", "질문", "", answer), tokenizer, length)
        if example is None:
            assert counts["dropped"] == 1, "not one character fits"
            continue
        learned = example.labels[example.labels != IGNORED].tolist()
        assert counts["completion_cut"] == 1
        assert answer.startswith(tokenizer.decode(learned))
        assert learned[-1] != tokenizer.eos_token_id
        assert len(example.input_ids) > length - 4, "at most three bytes of a character are left out"
        ends.add(tokenizer.decode(learned)[-1])
    assert {"뷁", "🇰", "𝔘"} <= ends
    assert whole.labels[-1] == tokenizer.eos_token_id


def test_a_row_whose_prompt_fills_the_length_is_dropped_and_counted(tokenizer):
    example, counts = one(Record("a", "s", "질문 " * 200, "", "대답"), tokenizer, 64)
    assert example is None
    assert counts["dropped"] == 1


def test_boundary_merges_are_counted():
    # trained so that the newline of the heading and the first letter of the answer are one token
    joined = train_tokenizer(["응답:\n\n\n가"] * 50, 300)
    _, counts = one(Record("a", "s", "질문", "", "\n\n대답"), joined)
    assert counts["boundary_merge"] == 1
    _, counts = one(Record("a", "s", "질문", "", "대답"), joined)
    assert counts["boundary_merge"] == 0


def test_holding_out_is_by_conversation_and_independent_of_order_and_other_rows():
    rows = [Record(f"c-{index}-t{turn}", "s", "q", "", "a") for index in range(200) for turn in (1, 3)]
    split = split_heldout(rows, 0.1, seed=3)
    held = {row.id.rsplit("-t", 1)[0] for row in split.heldout}
    assert held.isdisjoint(row.id.rsplit("-t", 1)[0] for row in split.train)
    assert 8 <= len(held) <= 35
    fewer = split_heldout(list(reversed(rows))[:300], 0.1, seed=3)
    assert {row.id for row in fewer.heldout} == {row.id for row in split.heldout} & {row.id for row in rows[100:]}
    assert {row.id for row in split_heldout(rows, 0.1, seed=4).heldout} != {row.id for row in split.heldout}


def test_a_split_with_an_empty_side_is_an_error():
    with pytest.raises(InputError, match="none to hold out"):
        split_heldout([Record("a", "s", "q", "", "a")], 0.001)
    with pytest.raises(InputError, match="none to train on"):
        split_heldout([], 0.0)


def test_a_server_that_renders_the_exported_template_makes_the_tokens_of_training():
    """A tokenizer that puts BOS before a text, as Llama's does, and one that puts nothing there."""
    for begins in (True, False):
        tokenizer = train_tokenizer(TEXTS, 600)
        if begins:
            bos = ("<|endoftext|>", tokenizer.bos_token_id)
            tokenizer._tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[bos])
        encoder = make_encoder("kullm-2023", tokenizer)
        record = Record("a", "s", "질문", "입력", "대답", (("앞 질문", "앞 대답"),))
        messages = record.messages()
        prompt = encoder.prompt(record)
        assert (prompt[0] == tokenizer.bos_token_id) == begins
        served = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert served == prompt
        learned = tokenise([record], encoder, max_length=1024).examples[0].input_ids.tolist()
        assert tokenizer.apply_chat_template(messages, return_dict=False) == learned
        assert encoder.sha256 == TEMPLATE.sha256
