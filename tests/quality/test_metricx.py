"""MetricX-24's form on a tiny mT5 with random weights: the score, its limits, the worst field of a row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from kollm.core.errors import InputError
from kollm.core.records import Original, Record
from kollm.quality.metricx import SCORE_TOKEN, MetricX
from kollm.quality.translation_judge import error_rate

WORDS = ("<pad>", "</s>", "<unk>", "source", ":", "candidate", "The", "cat", "sleeps", "고양이가", "잔다", ".")


def make_model(folder: Path, vocabulary: int = 250_112) -> None:
    torch.manual_seed(0)
    config = MT5Config(
        vocab_size=vocabulary, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    network = MT5ForConditionalGeneration(config)
    network.lm_head.weight.data[min(SCORE_TOKEN, vocabulary - 1)] *= 40
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def row(korean: str, output: str = "잔다.") -> Record:
    return Record(korean, "alpaca", korean, "", output, lang="ko", original=Original("The cat sleeps.", "", "sleeps."))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metricx")
    make_model(folder)
    return folder


def test_a_score_is_the_first_step_at_the_score_token_without_an_end_mark(folder: Path) -> None:
    judge = MetricX(folder)
    network = MT5ForConditionalGeneration.from_pretrained(folder)
    expected = []
    for english, korean in (("The cat sleeps.", "고양이가 잔다."), ("sleeps.", "잔다.")):
        ids = [WORDS.index(word) if word in WORDS else 2 for word in f"source : {english[:-1]} . candidate : {korean[:-1]} .".split()]  # fmt: skip
        with torch.no_grad():
            logits = network(torch.tensor([ids]), decoder_input_ids=torch.zeros((1, 1), dtype=torch.long)).logits
        expected.append(float(logits[0, 0, SCORE_TOKEN].clamp(0, 25)))
    (verdict,) = judge.verdicts([row("고양이가 잔다.")])
    assert verdict.score == pytest.approx(max(expected), abs=2e-3)
    assert verdict.status == "ok"
    assert 0.0 <= verdict.score <= 25.0


def test_rows_keep_their_order_and_one_without_text_is_a_failure(folder: Path) -> None:
    rows = [
        row("고양이가 고양이가 잔다."),
        Record("same", "alpaca", "x", "", "y", lang="ko", original=Original("x", "", "y")),
        row("잔다"),
    ]
    verdicts = MetricX(folder).verdicts(rows)
    assert [verdict.id for verdict in verdicts] == ["고양이가 고양이가 잔다.", "same", "잔다"]
    assert verdicts[1].severity is None
    assert error_rate(verdicts, 3).judged == 2


def test_another_models_vocabulary_is_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "small", vocabulary=64)
    with pytest.raises(InputError, match="has not mT5's vocabulary"):
        MetricX(tmp_path / "small")
