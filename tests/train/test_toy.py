"""Bases made on the spot: the same input gives the same bytes, and a folder with the marker is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kollm.core.errors import InputError, RecipeError
from kollm.core.files import read_json
from kollm.core.records import Original, Record
from kollm.recipe.schema import ToyBase
from kollm.train.toy import ARCHITECTURES, MARKER, answer_texts, make_base, plain_texts, train_tokenizer

TEXTS = ["서울은 대한민국의 수도입니다.", "물은 섭씨 영 도에서 업니다.", "가나다라 마바사 아자차카 타파하"]
SPEC = ToyBase(hidden_size=16, layers=1, heads=2, vocab_size=300, context=64, pretrain_steps=3, pretrain_block=16)


def spec(**changes: object) -> ToyBase:
    return SPEC.model_copy(update=changes)


def made(folder: Path, architecture: str = "gpt_neox", shape: ToyBase = SPEC, texts: Sequence[str] = TEXTS) -> Path:
    make_base(architecture, shape, texts, folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = content(made(tmp_path / "a"))
    torch.manual_seed(1)
    torch.rand(7)
    assert content(made(tmp_path / "b")) == first
    other = content(made(tmp_path / "c", shape=spec(seed=1)))
    assert other["tokenizer.json"] == first["tokenizer.json"]
    assert other["model.safetensors"] != first["model.safetensors"]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_eos_and_pad_agree_everywhere(architecture: str, tmp_path: Path) -> None:
    folder = made(tmp_path, architecture, spec(pretrain_steps=0))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|padding|>")
    for config in (model.config, model.generation_config):
        assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert model.config.model_type == architecture
    assert model.config.vocab_size >= len(tokenizer)


def test_the_tokenizer_writes_any_text_and_keeps_its_characters() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    for text in ("  없던 글자 뷁 🙂\n\n\t끝 ", "naïve — 漢字"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_any_number_of_pretraining_steps_works(steps: int, tmp_path: Path) -> None:
    folder = made(tmp_path, shape=spec(pretrain_steps=steps))
    assert all(
        torch.isfinite(tensor).all() for tensor in AutoModelForCausalLM.from_pretrained(folder).state_dict().values()
    )


def test_pretraining_lowers_the_loss_on_its_text(tmp_path: Path) -> None:
    losses = []
    for steps in (0, 40):
        folder = made(tmp_path / str(steps), shape=spec(pretrain_steps=steps, learning_rate=1e-2))
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
        losses.append(model(input_ids=ids, labels=ids).loss.item())
    assert losses[1] < losses[0] - 1


def test_a_folder_is_whole_or_as_it_was_and_a_changed_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(made(tmp_path / "whole"))
    folder = made(tmp_path / "half")
    monkeypatch.setattr("kollm.train.toy._pretrain", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for place in (folder, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            made(place)
    monkeypatch.undo()
    assert not (tmp_path / "new").exists()
    assert content(folder) == content(made(folder)) == whole
    about = read_json(folder / MARKER)
    assert (about["architecture"], about["toy"]) == ("gpt_neox", SPEC.model_dump())
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        made(folder)
    assert (folder / "model.safetensors").read_bytes() == b"changed"


def test_what_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'toy:gpt5' is unknown - use one of bloom, gpt2, gpt_neox, llama, mistral"):
        made(tmp_path, "gpt5")
    with pytest.raises(InputError, match="There is no text to make a toy base from"):
        made(tmp_path, texts=["", "  \n"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        made(tmp_path / "file")


def test_a_toy_reads_questions_and_originals_and_never_the_answers() -> None:
    original = Original("Ask", "Context", "Answer", (("Before", "Then"),))
    record = Record("a", "s", "질문", "맥락", "대답", (("먼저", "그때"),), original=original)
    read = list(plain_texts([record]))
    assert read == ["먼저", "질문", "맥락", "Before", "Then", "Ask", "Context", "Answer"]
    assert list(answer_texts([record])) == ["그때", "대답"]
