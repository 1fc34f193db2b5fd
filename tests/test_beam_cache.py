from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

import kollm.generate as generate
from kollm.beam_cache import BeamLayer, beam_cache
from kollm.generate import generate_answers, load_system, read_generations
from kollm.recipe import ToyBase
from kollm.records import Record
from kollm.train.toy import make_base

TASKS = [Record(f"t-{n}", "x", "물은 몇 도에서 업니까? " * (n + 1), "섭씨" * n, "") for n in range(5)]


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
@pytest.mark.parametrize("preset", ["paper", "beam-sample", "greedy"])
def test_the_answers_are_those_of_transformers_own_cache(
    architecture: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=512, pretrain_steps=12, pretrain_block=32)
    make_base(architecture, spec, ["물은 섭씨 0도에서 업니다. 서울은 수도입니다."] * 20, tmp_path / "base")
    system = load_system(str(tmp_path / "base"), prompt="kullm-2023")

    def answers(name: str) -> list[str]:
        generate_answers(TASKS, system, tmp_path / name, preset=preset, max_new_tokens=16, batch_size=3)
        return [generation.response for generation in read_generations(tmp_path / name)]

    ours = answers("ours.jsonl")
    monkeypatch.setattr(generate, "beam_cache", lambda config, new_tokens: None)
    assert answers("theirs.jsonl") == ours
    assert any(ours)


def test_beams_move_and_the_prompt_stays() -> None:
    layer = BeamLayer(new_tokens=2)
    prompt = torch.arange(2.0).view(1, 1, 2, 1).expand(3, 1, 2, 1)
    layer.update(prompt, prompt)
    step = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1, 1)
    layer.update(step, step)
    layer.reorder_cache(torch.tensor([2, 0, 0]))
    assert layer.get_seq_length() == 3
    assert layer.keys[:, 0, :, 0].tolist() == [[0, 1, 30], [0, 1, 10], [0, 1, 10]]


def test_models_that_forget_keep_their_own_cache() -> None:
    sliding = AutoConfig.for_model(
        "mistral", hidden_size=32, num_hidden_layers=2, num_attention_heads=2, sliding_window=8
    )
    assert beam_cache(sliding, 4) is None
    assert beam_cache(AutoConfig.for_model("gpt_neox", num_hidden_layers=2), 4) is not None
