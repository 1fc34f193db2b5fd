"""The rule is transformers': every test but the last ones asks both, so that an upgrade which changes it fails here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaptionPromptConfig, IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from kollm.answer.beam_search import SWEEP, BeamSettings, beam_search, supports_beam_search
from kollm.answer.file import read_generations
from kollm.answer.local import generate_answers, load_system
from kollm.answer.presets import Decoding
from kollm.core.records import Record
from kollm.recipe.schema import ToyBase
from kollm.train import adaption_prompt  # noqa: F401 - teaches PEFT to put LLaMA-Adapter on GPT-NeoX
from kollm.train.toy import make_base

EOS, PAD = 3, 0
LENGTHS = (9, 30, 2, 17, 17, 1)


def model(architecture: str, *, seed: int = 0, vocabulary: int = 40, **shape: Any) -> Any:
    """Random weights, scaled so that the beams differ and some rows end early."""
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, **shape}
    config = AutoConfig.for_model(architecture, vocab_size=vocabulary, initializer_range=0.2, **size)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def prompts(lengths: tuple[int, ...], *, seed: int = 0, vocabulary: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    mask = torch.tensor([[0] * (max(lengths) - length) + [1] * length for length in lengths])
    return torch.randint(4, vocabulary, mask.shape) * mask + PAD * (1 - mask), mask


def to_eos(rows: torch.Tensor) -> list[list[int]]:
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in rows.tolist()]


def theirs(network: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int, penalty: float) -> list[list[int]]:
    processor = RepetitionPenaltyLogitsProcessor(
        penalty, prompt_ignore_length=(mask == 0).sum(dim=1).repeat_interleave(4)
    )
    config = GenerationConfig(
        num_beams=4, do_sample=False, max_new_tokens=new_tokens, eos_token_id=EOS, pad_token_id=PAD
    )
    with torch.inference_mode():
        sequences = network.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([processor]),
        )
    # Where all rows end early, transformers' tensor is shorter than ours.
    return to_eos(torch.nn.functional.pad(sequences[:, ids.shape[1] :], (0, 1), value=EOS))


def ours(network: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int, penalty: float) -> list[list[int]]:
    assert supports_beam_search(network)
    with torch.inference_mode():
        rows = beam_search(network, ids, mask, BeamSettings(4, new_tokens, penalty, EOS))
    assert rows.shape == (len(ids), new_tokens)
    return to_eos(torch.nn.functional.pad(rows, (0, 1), value=EOS))


def assert_same(
    network: Any, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int = 2 * SWEEP + 5, penalty: float = 1.4
) -> list[list[int]]:
    answers = ours(network, ids, mask, new_tokens, penalty)
    assert answers == theirs(network, ids, mask, new_tokens, penalty)
    return answers


SHAPES = {
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox, head size 128": ("gpt_neox", {"hidden_size": 256}),
    "gpt_neox, head size 256": ("gpt_neox", {"hidden_size": 256, "num_attention_heads": 1}),
    "llama": ("llama", {}),
    "llama, shared key heads": ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "mistral, no window": ("mistral", {"num_key_value_heads": 1, "sliding_window": None}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_the_answers_are_those_of_transformers(shape: str, seed: int) -> None:
    architecture, size = SHAPES[shape]
    answers = assert_same(model(architecture, seed=seed, **size), *prompts(LENGTHS, seed=seed))
    assert len({tuple(answer) for answer in answers}) > 1


def test_rows_end_early_and_at_the_limit() -> None:
    lengths = {len(row) for seed in range(4) for row in assert_same(model("gpt_neox", seed=seed), *prompts(LENGTHS))}
    assert 2 * SWEEP + 6 in lengths  # the limit, and the EOS put behind it
    assert len(lengths) > 3


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_a_search_goes_on_beyond_many_sweeps(penalty: float) -> None:
    assert_same(model("gpt_neox", vocabulary=300), *prompts(LENGTHS, vocabulary=300), 6 * SWEEP + 1, penalty)


def test_ended_rows_and_dead_tokens_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (ids, mask) = model("gpt_neox", seed=7), prompts(LENGTHS, seed=7)
    fed, forward = [], network.forward

    def recorded(**inputs: Any) -> Any:
        fed.append((inputs["input_ids"].shape, inputs["attention_mask"].shape[-1]))
        return forward(**inputs)

    monkeypatch.setattr(network, "forward", recorded)
    ours(network, ids, mask, 4 * SWEEP, 1.4)
    assert [shape for shape, _ in fed[:2]] == [(6, 30), (6, 4)]
    assert fed[-1][0][0] < 6
    steps = len(fed) - 1
    assert steps > 3 * SWEEP
    assert max(seen for _, seen in fed) < 30 + 3 * steps  # not 30 + 4 * steps


def test_all_rows_end_at_once() -> None:
    ids, mask = prompts((8,))
    assert_same(model("llama", seed=1), ids.repeat(5, 1), mask.repeat(5, 1))


@pytest.mark.parametrize("new_tokens", [1, 2, 12])
@pytest.mark.parametrize("lengths", [(11,), LENGTHS])
def test_one_row_and_few_new_tokens(lengths: tuple[int, ...], new_tokens: int) -> None:
    assert_same(model("gpt_neox", seed=2), *prompts(lengths), new_tokens)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
@pytest.mark.parametrize("kind", ["lora", "ia3", "adaption_prompt"])
def test_adapters_decode_alike(architecture: str, kind: str) -> None:
    layers = {
        "gpt_neox": ["query_key_value", "dense_4h_to_h"],
        "llama": ["k_proj", "v_proj", "down_proj"],
    }[architecture]
    config = {
        "lora": LoraConfig(target_modules=layers, init_lora_weights=False, task_type="CAUSAL_LM"),
        "ia3": IA3Config(target_modules=layers, feedforward_modules=layers[-1:], task_type="CAUSAL_LM"),
        "adaption_prompt": AdaptionPromptConfig(adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM"),
    }[kind]
    ids, mask = prompts(LENGTHS)
    base = assert_same(model(architecture, seed=3), ids, mask)
    network = get_peft_model(model(architecture, seed=3), config).eval()
    torch.manual_seed(5)
    for name, weights in network.named_parameters():
        if "ia3" in name or "adaption_gate" in name:  # both start where they change nothing
            torch.nn.init.normal_(weights, mean=1.0)
    assert assert_same(network, ids, mask) != base


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("bloom", {"n_head": 2}), ("mistral", {"sliding_window": 8}), ("gpt2", {"n_head": 2})],
)
def test_others_are_left_to_transformers(architecture: str, size: dict[str, Any]) -> None:
    config = AutoConfig.for_model(architecture, vocab_size=40, **{"hidden_size": 32, "num_hidden_layers": 1, **size})
    assert not supports_beam_search(AutoModelForCausalLM.from_config(config))


def test_what_changes_the_rule_is_left_to_transformers() -> None:
    network = model("gpt_neox")
    assert supports_beam_search(network)
    network.generation_config = GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=[1, 2])
    assert supports_beam_search(network)
    network.generation_config = GenerationConfig(no_repeat_ngram_size=3)
    assert not supports_beam_search(network)
    prefix = PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    assert not supports_beam_search(get_peft_model(model("gpt_neox"), prefix))
    eager = model("gpt_neox")
    eager.set_attn_implementation("eager")
    assert not supports_beam_search(eager)


@pytest.mark.parametrize("architecture", ["gpt_neox", "bloom"])
def test_the_papers_decoding_is_the_same_either_way(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=512, pretrain_steps=12, pretrain_block=32)
    make_base(architecture, spec, ["물은 섭씨 0도에서 업니다. 서울은 수도입니다."] * 20, tmp_path / "base")
    system = load_system(str(tmp_path / "base"), prompt="kullm-2023")
    tasks = [Record(f"t-{n}", "x", "물은 몇 도에서 업니까? " * (n + 1), "섭씨" * n, "") for n in range(5)]

    def answers(name: str) -> list[tuple[str, str]]:
        generate_answers(tasks, system, tmp_path / name, Decoding(max_new_tokens=16), batch_size=3)
        return [(answer.response, answer.finish_reason) for answer in read_generations(tmp_path / name)]

    ours = answers("ours.jsonl")
    monkeypatch.setattr("kollm.answer.engines.transformers.supports_beam_search", lambda network: False)
    assert answers("theirs.jsonl") == ours
    assert any(response for response, _ in ours)
