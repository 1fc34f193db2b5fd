"""Models on this machine as translators: tiny ones, made on the spot."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402
from transformers import (  # noqa: E402
    BartConfig,
    BartForConditionalGeneration,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from kollm.core.errors import InputError  # noqa: E402
from kollm.core.records import Record  # noqa: E402
from kollm.services.ledger import Ledger  # noqa: E402
from kollm.translate import make_translator, translate_records  # noqa: E402
from kollm.translate.local import LocalTranslator  # noqa: E402

ENGLISH = ["run", "the", "code", "now", "then", "read", "it", "again", "open", "file", "and", "stop", "here"]
KOREAN = ["실행", "그", "코드", "지금", "다음", "읽기", "그것", "다시", "열기", "파일", "그리고", "멈춤", "여기"]
WORDS = f"(?:{'|'.join(KOREAN)})(?: (?:{'|'.join(KOREAN)}))*"
Rows = Callable[..., list[Record]]


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<s>", "</s>", "<unk>", ".", ",", *ENGLISH, *KOREAN]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **names)


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sequence-to-sequence model that says four to six Korean words to anything."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, init_std=1.0,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    network = BartForConditionalGeneration(config)
    network.final_logits_bias[:, : 6 + len(ENGLISH)] = -1e4
    network.final_logits_bias[:, 2] = -100.0
    network.generation_config.exponential_decay_length_penalty = (3, 6.0)
    folder = tmp_path_factory.mktemp("babbler")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def random_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("causal")
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def row(rows: Rows, **fields: str) -> Record:
    return dataclasses.replace(rows(1)[0], **{"instruction": "run it", "input": "", "output": "stop here", **fields})


def test_a_sequence_to_sequence_model(babbler: Path, ledger: Ledger, rows: Rows) -> None:
    translator = make_translator("local", model=str(babbler), batch_size=4)
    record = row(
        rows,
        instruction="run the `code_1` now",
        input="  1. open the file\n  2. read it again\n\nhttps://example.org/x",
        output="| file | code |\n|---|---|\n| run | stop & here |",
    )
    (outcome,) = translate_records([record], translator, ledger=ledger)
    assert outcome.reason is None
    assert re.fullmatch(f"{WORDS} `code_1` {WORDS}", outcome.record.instruction)
    assert re.fullmatch(f"  1\\. {WORDS}\n  2\\. {WORDS}\n\nhttps://example\\.org/x", outcome.record.input)
    assert re.fullmatch(
        f"\\| {WORDS} \\| {WORDS} \\|\n\\|---\\|---\\|\n\\| {WORDS} \\| {WORDS} \\|", outcome.record.output
    )
    assert outcome.record.provenance.engine == "local" and outcome.record.provenance.characters == 0


def test_it_is_resumed_from_the_ledger(babbler: Path, ledger: Ledger, rows: Rows) -> None:
    records = [row(rows, output=f"read {word}") for word in ENGLISH]
    first = translate_records(records, LocalTranslator(str(babbler)), ledger=ledger)
    again = LocalTranslator(str(babbler))
    again.translate = None  # type: ignore[method-assign,assignment]
    assert translate_records(records, again, ledger=ledger) == first
    assert all(re.fullmatch(WORDS, item.record.output) for item in first)


def test_batching_changes_nothing(babbler: Path, tmp_path: Path, rows: Rows) -> None:
    records = [row(rows, output=" ".join(ENGLISH[: 1 + number % 7])) for number in range(9)]
    results = []
    for size in (1, 5):
        with Ledger.open(tmp_path / f"{size}.sqlite3") as book:
            results.append(translate_records(records, LocalTranslator(str(babbler), batch_size=size), ledger=book))
    assert results[0] == results[1]


def test_a_line_longer_than_the_model_is_divided(babbler: Path, ledger: Ledger, rows: Rows) -> None:
    text = " ".join(["run the code now. " + "read it again " * 9 + "stop."] * 2)
    translator = LocalTranslator(str(babbler))
    pieces = translator._pieces(text)
    assert " ".join(pieces) == text and all(len(translator._tokenizer(piece)["input_ids"]) <= 24 for piece in pieces)
    (outcome,) = translate_records([row(rows, output=text)], translator, ledger=ledger)
    assert outcome.reason is None and re.fullmatch(WORDS, outcome.record.output)


def test_a_text_that_does_not_end_is_rejected(babbler: Path, ledger: Ledger, rows: Rows) -> None:
    translator = LocalTranslator(str(babbler), max_new_tokens=2)
    (outcome,) = translate_records([row(rows, output="run the code now then")], translator, ledger=ledger)
    assert (
        outcome.reason == "truncated: the model did not end a line, or left one empty" and outcome.record.lang == "en"
    )


def test_a_causal_model_is_checked_like_any_other(random_causal: Path, ledger: Ledger, rows: Rows) -> None:
    translator = LocalTranslator(str(random_causal), max_new_tokens=8)
    (outcome,) = translate_records([row(rows)], translator, ledger=ledger)
    assert str(outcome.reason).startswith(("truncated: the model did not end", "parse_error: no document"))
    assert translator.options["prompt_sha256"]


def test_a_multilingual_model_is_told_the_languages(babbler: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(babbler)
    tokenizer.add_special_tokens({"additional_special_tokens": ["eng_Latn", "kor_Hang"]})
    network = BartForConditionalGeneration.from_pretrained(babbler)
    network.resize_token_embeddings(len(tokenizer))
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    translator = LocalTranslator(str(tmp_path))
    assert (translator.options["source_lang"], translator.options["target_lang"]) == ("eng_Latn", "kor_Hang")
    assert translator._forced == tokenizer.convert_tokens_to_ids("kor_Hang")
    assert translator._tokenizer.src_lang == "eng_Latn"


def test_bad_models(tmp_path: Path, babbler: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        LocalTranslator(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="cannot be loaded"):
        LocalTranslator(str(tmp_path))
    with pytest.raises(InputError, match="does not know the language 'kor_Hang'"):
        LocalTranslator(str(babbler), target_lang="kor_Hang")
