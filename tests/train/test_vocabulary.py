from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaTokenizer

from kollm.cli import main
from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.core.resources import resource_folder
from kollm.dataset.corpus import build_corpus, read_texts
from kollm.dataset.folder import read_records
from kollm.recipe.load import load_recipe
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import ToyBase
from kollm.train.job import train_recipe
from kollm.train.toy import make_base, train_tokenizer
from kollm.train.vocabulary import extend_base, extended, grow, learn_merges, tokens_per_character


def sample(language: str, *names: str) -> list[str]:
    lines = [
        line
        for name in names
        for line in (resource_folder("sources/sample_rows") / f"{name}.{language}.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    return [text for line in lines for text in strings(json.loads(line)) if text]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def has_hangul(text: str) -> bool:
    return any("가" <= character <= "힣" for character in text)


ENGLISH, KOREAN = (sample(language, "gpt4_llm", "dolly") for language in ("en", "ko"))
UNSEEN = [text for text in sample("ko", "human_eval") if has_hangul(text)]
OTHERS = ["“Curly” – quotes… naïve café", "Привет, мир", "汉字和かな", "ꀀꀁ ꓐꓑ", "🙂 👍🏽", "\t\n  x = {1: 'a'}", ""]


def by_bytes() -> Any:
    return train_tokenizer(ENGLISH, 1500)


def by_characters() -> Any:
    """A tokenizer of Llama 2's kind: SentencePiece's space mark, bytes for characters without a token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.train_from_iterator(ENGLISH, trainers.BpeTrainer(vocab_size=1200, show_progress=False))
    model = json.loads(bpe.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "은", *model["vocab"]]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return LlamaTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])


@pytest.mark.parametrize("kind", [by_bytes, by_characters])
def test_english_stays_as_it_was_and_korean_becomes_shorter(kind: Any, tmp_path: Path) -> None:
    old = kind()
    growth = grow(old.backend_tokenizer, KOREAN, 700)
    assert len(growth.tokens) == len(set(growth.tokens)) == 700
    old.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(
        extended(json.loads(old.backend_tokenizer.to_str()), growth), encoding="utf-8"
    )
    new = AutoTokenizer.from_pretrained(tmp_path)
    assert len(new) == len(old) + 700

    without_hangul = [text for text in (*ENGLISH, *OTHERS) if not has_hangul(text)]
    assert new(without_hangul)["input_ids"] == old(without_hangul)["input_ids"]
    for text in KOREAN[:60]:
        assert new.decode(new(text)["input_ids"], skip_special_tokens=True) == text

    for name, texts in (("Korean", KOREAN), ("unseen Korean", UNSEEN), ("English", without_hangul)):
        before, after = (tokens_per_character(tokenizer, texts) for tokenizer in (old, new))
        print(f"{kind.__name__}: {name} {before:.3f} -> {after:.3f} tokens a character")
        assert after == before if name == "English" else after < 0.55 * before
    used = {token for text in KOREAN for token in new.tokenize(text)}
    assert len(used & set(growth.tokens)) > 600  # what was learned is reached


def test_the_same_text_in_another_order_gives_the_same_tokens() -> None:
    backend = by_bytes().backend_tokenizer
    assert grow(backend, KOREAN, 200) == grow(backend, KOREAN[::-1], 200)


@settings(max_examples=60)
@given(st.dictionaries(st.text("가나다 ", min_size=1, max_size=7), st.integers(1, 5), min_size=1, max_size=8))
def test_merges_are_those_of_byte_pair_encoding_done_plainly(words: dict[str, int]) -> None:
    rows = {tuple(word): count for word, count in words.items()}
    assert learn_merges(rows, 5, set(), lambda token: True) == plain_merges(dict(rows), 5)


def plain_merges(rows: dict[tuple[str, ...], int], room: int) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while len(made) < room:
        totals: Counter[tuple[str, str]] = Counter()
        for row, count in rows.items():
            for pair in pairwise(row):
                totals[pair] += count
        best = min(totals, key=lambda pair: (-totals[pair], pair), default=None)
        if best is None or totals[best] < 2:
            break
        merges.append(best)
        made.add("".join(best))
        joined: Counter[tuple[str, ...]] = Counter()
        for row, count in rows.items():
            pieces, index = [], 0
            while index < len(row):
                step = 2 if row[index : index + 2] == best else 1
                pieces.append("".join(row[index : index + step]))
                index += step
            joined[tuple(pieces)] += count
        rows = dict(joined)
    return merges


def test_what_cannot_be_extended_is_said() -> None:
    with pytest.raises(InputError, match="no Hangul"):
        grow(by_bytes().backend_tokenizer, ["English only"], 10)
    with pytest.raises(InputError, match="only BPE"):
        grow(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), KOREAN, 10)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=900, context=256, pretrain_steps=0)
    make_base("llama", spec, ENGLISH, folder)
    return folder


def test_new_rows_start_at_the_mean_of_what_they_replace(base: Path, tmp_path: Path) -> None:
    sizes = extend_base(str(base), KOREAN, 1100, tmp_path / "out")
    assert sizes["after"]["tokens"] == 1100
    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "out")
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "out"))
    assert after.config.vocab_size % 64 == 0
    ids = new.get_vocab()
    token = max(set(ids) - set(old.get_vocab()), key=len)
    replaced = [piece.id for piece in old.backend_tokenizer.model.tokenize(token)]
    assert len(replaced) > 1
    for side in ("get_input_embeddings", "get_output_embeddings"):
        rows, grown = getattr(before, side)().weight, getattr(after, side)().weight
        torch.testing.assert_close(grown[ids[token]], rows[replaced].mean(dim=0))
        torch.testing.assert_close(grown[: len(old)], rows[: len(old)])


def test_commands_say_what_they_did_and_what_is_wrong(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(KOREAN), encoding="utf-8")
    vocabulary = ["vocabulary", str(base), "--text", str(text), "--size"]
    main([*vocabulary, "1000", "-o", str(tmp_path / "out")])
    assert "900 -> 1,000 tokens" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*vocabulary, "900", "-o", str(tmp_path / "no")])
    assert "has 900 tokens already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*vocabulary, "1000", "--text", str(tmp_path / "none.txt"), "-o", str(tmp_path / "no")])
    assert "does not exist" in capsys.readouterr().err
    main(["data", "corpus", str(text), "-o", str(tmp_path / "corpus")])
    assert "rows in" in capsys.readouterr().out


def test_a_corpus_keeps_every_word_of_its_documents(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("첫 문서의 첫 줄\n둘째 줄\n\n\n" + "낱말 " * 100 + "\n\n끝\n", encoding="utf-8")
    assert build_corpus([text], tmp_path / "corpus", characters=64) == 7
    rows = list(read_records(str(tmp_path / "corpus"), split="train"))
    assert rows[0].output == "첫 문서의 첫 줄\n둘째 줄"
    assert {row.instruction for row in rows} == {""}
    assert max(len(row.output) for row in rows) <= 64
    words = " ".join(row.output for row in rows).split()
    assert words == text.read_text(encoding="utf-8").split()
    assert "\n".join(read_texts([tmp_path / "corpus"])).split() == words
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n", encoding="utf-8")
    with pytest.raises(InputError, match="no text"):
        build_corpus([empty], tmp_path / "other")


def test_plain_text_is_trained_on_from_its_first_word() -> None:
    plain = PromptTemplate.load("plain")
    assert plain.text(Record("c-0", "corpus", "", "", "본문"), "<eos>") == "본문<eos>"
    assert plain.text(Record("c-0", "corpus", "물음", "글", "답"), "<eos>") == "물음\n글\n답<eos>"
    assert [s.text for s in plain.segments(Record("c-0", "corpus", "", "", "본문"), "<eos>")] == ["", "본문<eos>"]


@pytest.mark.slow
def test_the_three_steps_of_llama_2_ko(base: Path, tmp_path: Path) -> None:
    """Vocabulary, more pre-training with every weight, instruction tuning on the result."""
    extend_base(str(base), KOREAN, 1200, tmp_path / "extended")
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(KOREAN), encoding="utf-8")
    build_corpus([text], tmp_path / "corpus", characters=200)
    small = {
        "max_length": 256,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_steps": 100,
        "max_steps": 12,
    }
    overrides = [
        "global_batch_size=8",
        "base.dtype=float32",
        *(f"trainer.{key}={value}" for key, value in small.items()),
    ]
    pretrain = load_recipe("llama-2-ko-7b-pretrain", [*overrides, "trainer.learning_rate=3e-3"])
    train_recipe(pretrain, str(tmp_path / "corpus"), tmp_path / "pretrained", base=tmp_path / "extended")
    history = json.loads((tmp_path / "pretrained" / "metrics.json").read_text(encoding="utf-8"))["history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.5
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / "pretrained").get_input_embeddings().weight
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "extended").get_input_embeddings().weight
    assert (moved - start)[1000:1200].abs().max() > 1e-3

    tuning = load_recipe("llama-2-ko-7b", [*overrides, "data.holdout=0.1"])
    train_recipe(tuning, str(tmp_path / "corpus"), tmp_path / "adapter", base=tmp_path / "pretrained")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
