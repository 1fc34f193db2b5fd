"""A translation model from the Hub, or a folder, on this machine: sequence-to-sequence or causal, batched.

A sequence-to-sequence model knows no tags, so that the text between two tags is translated by itself and put back:
structure survives by construction. A causal model gets the whole document with the prompt that the chat engine
uses, and its answer is checked like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import TemplateError

from kollm.core.errors import InputError, MissingExtraError
from kollm.core.hashing import text_sha256
from kollm.services.budget import Budget, Usage
from kollm.services.ledger import Ledger
from kollm.services.local_model import find_whole_model, inference_dtype, load_config, load_network, load_tokenizer
from kollm.translate.lines import LETTER
from kollm.translate.translator import Limits, Segment, Translation

try:
    import torch
    import transformers  # noqa: F401
except ImportError as error:
    raise MissingExtraError("transformers", "train") from error

LANGUAGES = (("eng_Latn", "kor_Hang"), ("en_XX", "ko_KR"), ("en", "__ko__"))
"""How the tokenizers of NLLB, mBART and M2M100 call English, and the token that begins a Korean translation."""
PROMPT = Path(__file__).with_name("prompt.txt").read_text(encoding="utf-8")
_DOCUMENT = re.compile(r"<d>.*?</d>", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class LocalTranslator:
    """Translates XML documents by a model on this machine; greedy or by beams, so that a run can be repeated.

    Args:
        model: `ORG/NAME`, `ORG/NAME@REVISION` or a folder; safetensors only, no code from the Hub.
        revision: branch, tag or commit of the Hub model.
        source_lang: English as the tokenizer calls it; None to know it by the vocabulary (NLLB, mBART, M2M100), or
            for a model of one pair of languages.
        target_lang: Korean, likewise.
        device: e.g. `cuda:0`; None for a GPU if there is one.
        batch_size: texts in one forward pass.
        num_beams: beams; 1 is greedy.
        max_new_tokens: most tokens of one translated text.

    Raises:
        InputError: the model cannot be found or loaded, or does not know a language.
        ServiceError: the Hub cannot be reached.
    """

    name = "local"
    base_url = ""
    kept = True
    books_itself = False
    markup = True

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        device: str | None = None,
        batch_size: int = 16,
        num_beams: int = 1,
        max_new_tokens: int = 512,
    ) -> None:
        found = find_whole_model(model, revision)
        self.model = found.name
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._batch_size, self._num_beams, self._max_new_tokens = batch_size, num_beams, max_new_tokens
        config = load_config(found)
        self._seq2seq = bool(config.is_encoder_decoder)
        dtype = inference_dtype(self._device.type)
        self._tokenizer = load_tokenizer(found, padding_side="right" if self._seq2seq else "left")
        network = load_network(found, dtype, "sequence-to-sequence" if self._seq2seq else "causal")
        self._network = network.to(self._device).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if target_lang is None:
            vocabulary = self._tokenizer.get_vocab()
            known = (pair for pair in LANGUAGES if pair[1] in vocabulary)
            source_lang, target_lang = next(known, (source_lang, None))
        if source_lang is not None:
            self._tokenizer.src_lang = source_lang
        self._forced = self._language_token(target_lang)
        self.options: Mapping[str, Any] = {
            # A repository's name holds its commit; a folder may be trained anew under the same name.
            "weights": found.content() if found.commit is None else "",
            "dtype": str(dtype),
            "source_lang": source_lang,
            "target_lang": target_lang,
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "prompt_sha256": None if self._seq2seq else text_sha256(PROMPT),
        }
        self._longest = _context(self._tokenizer, config)
        self.limits = Limits(workers=1, batch_texts=4 * batch_size, texts_apart=True)

    def start(self, ledger: Ledger | None, budget: Budget) -> None:
        """Nothing to prepare."""

    def translate(self, batch: Sequence[Segment]) -> list[Translation]:
        """One Translation a Segment; a text that the model did not end within its limit has none."""
        if not self._seq2seq:
            return self._translate_whole([segment.text for segment in batch])
        roots = [ElementTree.fromstring(segment.text) for segment in batch]
        pieces = sorted({piece for root in roots for text in root.itertext() for piece in self._pieces(text)})
        answers = dict(zip(pieces, self._generate(pieces), strict=True))
        return [self._assembled(root, answers) for root in roots]

    def stop(self) -> None:
        """Nothing to stop."""

    def price(self, text: str) -> tuple[int, float]:
        """Nothing: it runs here."""
        return 0, 0.0

    def usage(self) -> Usage | None:
        """There is no account."""
        return None

    def _translate_whole(self, documents: Sequence[str]) -> list[Translation]:
        prompts = [self._prompt(document) for document in documents]
        translations = []
        for answer in self._generate(prompts):
            found = _DOCUMENT.search(answer) if answer is not None else None
            if found is not None:
                translations.append(Translation(found.group()))
            else:
                reason = (
                    "truncated: the model did not end" if answer is None else "parse_error: no document in the answer"
                )
                translations.append(Translation(None, reason=reason))
        return translations

    def _prompt(self, document: str) -> str:
        if not self._tokenizer.chat_template:
            return f"{PROMPT}\n{document}\n\n"
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": document}]
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            raise InputError(
                f"The chat template of '{self.model}' cannot render a document ({error}) - use another model."
            ) from error

    def _assembled(self, root: ElementTree.Element, answers: Mapping[str, str | None]) -> Translation:
        for element in root.iter():
            for name in ("text", "tail"):
                text = self._replaced(getattr(element, name) or "", answers)
                if text is None:
                    return Translation(None, reason="truncated: the model did not end a line, or left one empty")
                setattr(element, name, text)
        return Translation(ElementTree.tostring(root, encoding="unicode"))

    def _replaced(self, text: str, answers: Mapping[str, str | None]) -> str | None:
        """The text with its pieces replaced by their answers, the rest as it was; None if a piece has no answer."""
        result, position = [], 0
        for piece in self._pieces(text):
            start = text.index(piece, position)
            answer = " ".join((answers[piece] or "").split())  # one line, whatever the model says
            if not answer:
                return None
            result += [text[position:start], answer]
            position = start + len(piece)
        return "".join([*result, text[position:]])

    def _pieces(self, text: str) -> list[str]:
        """What is translated of a text between two tags, in order, without surrounding spaces."""
        return self._fitting(text.strip()) if LETTER.search(text) else []

    def _fitting(self, line: str) -> list[str]:
        """The line, or where it is too long for the model its sentences, or their halves."""
        if len(line) < self._longest or len(self._tokenizer(line)["input_ids"]) <= self._longest:
            return [line]
        pieces = _SENTENCE_END.split(line)
        if len(pieces) == 1:
            words = line.split(" ")
            middle = len(words) // 2
            if not middle:
                return [line]  # one endless word: the tokenizer cuts it
            pieces = [" ".join(words[:middle]), " ".join(words[middle:])]
        return [part for piece in pieces if LETTER.search(piece) for part in self._fitting(piece.strip())]

    def _generate(self, texts: Sequence[str]) -> list[str | None]:
        """The model's answer to each text; None where it did not end within the limit."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # alike lengths need little padding
        answers: list[str | None] = [None] * len(texts)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            with torch.inference_mode():
                found = self._generate_batch([texts[index] for index in chosen])
            for index, answer in zip(chosen, found, strict=True):
                answers[index] = answer
        return answers

    def _generate_batch(self, texts: Sequence[str]) -> list[str | None]:
        inputs = self._tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=self._seq2seq, max_length=self._longest
        ).to(self._device)
        inputs.pop("token_type_ids", None)
        output = self._network.generate(
            **inputs,
            do_sample=False,
            num_beams=self._num_beams,
            max_new_tokens=self._max_new_tokens,
            pad_token_id=self._tokenizer.pad_token_id,
            **({"forced_bos_token_id": self._forced} if self._forced is not None else {}),
        )
        answers = output[:, 1:] if self._seq2seq else output[:, inputs["input_ids"].shape[1] :]
        # A text that ends with the very last token may have been ended by force.
        ends = set(_as_list(self._network.generation_config.eos_token_id))
        before_last = answers[:, : self._max_new_tokens - 1]
        decoded: list[str] = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        ended = [not ends.isdisjoint(row.tolist()) for row in before_last]
        return [text if whole else None for text, whole in zip(decoded, ended, strict=True)]

    def _language_token(self, language: str | None) -> int | None:
        if language is None:
            return None
        token = self._tokenizer.convert_tokens_to_ids(language)
        if token is None or token == self._tokenizer.unk_token_id:
            raise InputError(f"The model '{self.model}' does not know the language '{language}' - see its model card.")
        return int(token)


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _context(tokenizer: Any, config: Any) -> int:
    """Tokens that the model takes: the tokenizer's own limit where it is a real one, else the configuration's."""
    if tokenizer.model_max_length < 1 << 30:
        return int(tokenizer.model_max_length)
    return int(getattr(config, "max_position_embeddings", None) or 512)
