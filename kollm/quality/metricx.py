"""MetricX-24 without a reference: a regression on mT5 that scores a translation from 0 (no error) to 25 (Juraska et al. 2024).

The score is the first decoder step's value at the token `<extra_id_10>`, and the input ends without an end mark; both are
as in the authors' `metricx24/predict.py`. The weights are those of an mT5, so that transformers' own class holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.quality.translation_judge import Severity, TranslationVerdict
from kollm.services.local_model import find_model, find_whole_model, inference_dtype, load_network, load_tokenizer

MODEL = "google/metricx-24-hybrid-large-v2p6"
TOKENIZER = "google/mt5-xl"
"""MetricX's repositories hold weights alone."""
SCORE_TOKEN = 250_089
"""`<extra_id_10>` in mT5's vocabulary."""
LONGEST = 1536
"""Tokens of an input that the authors allow; longer ones are cut at the end."""
MAJOR, MINOR = 5.0, 2.0
"""Scores from which a row counts as wrong: MQM gives 5 for one major error, 1 for a minor one."""
_BATCH = 8


class MetricX:
    """Scores translations with a MetricX-24 model of the Hub or of a folder.

    Args:
        model: `ORG/NAME`, or a folder.
        tokenizer: the same for mT5's tokenizer; None for the model's own folder, or TOKENIZER where that has none.
        device: torch's name of the device.

    Raises:
        InputError: no such model, or one whose vocabulary is not mT5's.
    """

    def __init__(self, model: str | Path = MODEL, tokenizer: str | Path | None = None, device: str = "cpu") -> None:
        found = find_whole_model(model)
        self.name = found.name
        self._network: Any = load_network(found, inference_dtype(device), "sequence-to-sequence")
        self._network.to(device).eval().requires_grad_(False)
        if self._network.config.vocab_size <= SCORE_TOKEN:
            raise InputError(
                f"The model '{found.name}' has not mT5's vocabulary - name a MetricX-24 model, e.g. {MODEL}."
            )
        own = any((found.folder / name).is_file() for name in ("tokenizer.json", "spiece.model"))
        self._tokenizer: Any = load_tokenizer(
            found if own and tokenizer is None else find_model(tokenizer or TOKENIZER)
        )
        self._device = device

    def verdicts(self, records: Sequence[Record]) -> list[TranslationVerdict]:
        """Judge each row by its worst field."""
        pairs = [(record, english, korean) for record in records for english, korean in _fields(record)]
        order = sorted(range(len(pairs)), key=lambda number: len(pairs[number][1]) + len(pairs[number][2]))
        worst: dict[str, float] = {}
        for start in range(0, len(order), _BATCH):
            batch = [pairs[number] for number in order[start : start + _BATCH]]
            for (record, _, _), score in zip(batch, self._scores([pair[1:] for pair in batch]), strict=True):
                worst[record.id] = max(worst.get(record.id, 0.0), score)
        return [self._verdict(record, worst.get(record.id)) for record in records]

    def _verdict(self, record: Record, score: float | None) -> TranslationVerdict:
        if score is None:
            return TranslationVerdict(
                record.id, self.name, None, None, "parse_error", "no field holds a text to compare"
            )
        severity: Severity = "major" if score >= MAJOR else "minor" if score >= MINOR else "none"
        return TranslationVerdict(record.id, self.name, severity, round(score, 3), "ok")

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        texts = [f"source: {english} candidate: {korean}" for english, korean in pairs]
        ids = [
            self._tokenizer(text, max_length=LONGEST, truncation=True)["input_ids"][:-1] for text in texts
        ]  # without the end mark
        batch = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        begin = batch["input_ids"].new_zeros((len(ids), 1))
        logits = self._network(**batch, decoder_input_ids=begin).logits[:, 0, SCORE_TOKEN]
        scores: list[float] = logits.float().clamp(0.0, 25.0).tolist()
        return scores


def _fields(record: Record) -> Iterator[tuple[str, str]]:
    english = record.english().texts()
    for name, korean in record.texts().items():
        if english.get(name, "").strip() and english[name] != korean:
            yield english[name], korean
