"""Every adapter trains, in fp32, on the base as it is; and what is saved is PEFT's own format."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from kollm.core.errors import RecipeError, StateError
from kollm.core.files import file_sha256, read_json
from kollm.recipe.load import load_recipe
from kollm.train.adapters import check_targets
from kollm.train.precision import Watchdog
from tests.train.exact.conftest import make_records

IA3 = (
    "adapter.method=ia3",
    "adapter.feedforward=[dense_4h_to_h]",
    "trainer.learning_rate=5e-5",
    "trainer.max_steps=12",
)


@pytest.mark.parametrize(
    "quantization",
    [
        "none",
        pytest.param(
            "int8",
            marks=pytest.mark.nightly(
                "tests/train/exact/test_adapters.py::test_ia3_trains_at_its_small_rate_and_leaves_queries_alone"
            ),
        ),
        "nf4",
    ],
)
def test_ia3_trains_at_its_small_rate_and_leaves_queries_alone(run_training, quantization):
    """TRL would cast the scales of a quantised base to bf16, where a step of 5e-5 from 1.0 is no step at all."""
    result = run_training(*IA3, f"quantization={quantization}", "base.dtype=bfloat16")
    scales = {name: weight for name, weight in result.weights.items() if "ia3_l" in name}
    assert len(scales) == 4
    for name, weight in scales.items():
        assert weight.dtype == torch.float32
        if "query_key_value" in name:
            queries, keys, values = weight.view(2, 3, 32).unbind(dim=1)  # heads, parts, head size
            assert torch.equal(queries, torch.ones_like(queries))
            assert (keys != 1).float().mean() > 0.9 and (values != 1).float().mean() > 0.9
        else:
            assert (weight != 1).float().mean() > 0.9
    assert (torch.cat([w.flatten() for w in scales.values()]) - 1).abs().max() < 2e-3, "all of it below a bf16 step"


def test_bf16_on_a_card_without_it_is_refused_before_any_weight(run_training, monkeypatch):
    from kollm.train import job, precision

    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda including_emulation: False)  # type: ignore[attr-defined]
    monkeypatch.setattr(precision.torch.cuda, "get_device_name", lambda: "Tesla T4")  # type: ignore[attr-defined]
    monkeypatch.setattr(job, "load_model", None)
    with pytest.raises(RecipeError, match="bfloat16, which Tesla T4 does not compute in"):
        run_training("base.dtype=bfloat16")


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_the_methods_lower_the_loss(run_training, method):
    result = run_training(f"adapter.method={method}", "trainer.max_steps=12", "trainer.learning_rate=1e-2")
    assert result.losses[-1] < result.losses[0]
    assert result.metrics["heldout"]["after"] < result.metrics["heldout"]["before"]


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(
            "lora",
            marks=pytest.mark.nightly("tests/train/exact/test_adapters.py::test_int8_adapters_stay_in_fp32_and_move"),
        ),
        "dora",
    ],
)
def test_int8_adapters_stay_in_fp32_and_move(run_training, method):
    result = run_training(
        f"adapter.method={method}", "quantization=int8", "base.dtype=bfloat16", "trainer.max_steps=12"
    )
    assert {weight.dtype for weight in result.weights.values()} == {torch.float32}
    assert all(weight.abs().sum() > 0 for name, weight in result.weights.items() if "lora_B" in name)


def test_an_untrained_adaption_prompt_changes_nothing_and_a_trained_one_learns(run_training, base):
    from peft import AdaptionPromptConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    ids = torch.arange(5, 45)[None]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    expected = model(input_ids=ids).logits
    config = AdaptionPromptConfig(target_modules="attention", adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM")
    assert torch.allclose(get_peft_model(model, config)(input_ids=ids).logits, expected, atol=1e-6)

    result = run_training("adapter.method=adaption_prompt", "trainer.max_steps=12", "trainer.learning_rate=3e-2")
    assert result.metrics["heldout"]["after"] < result.metrics["heldout"]["before"]
    assert sorted(result.weights)[0].endswith("attention.adaption_gate")


@pytest.mark.nightly(
    "tests/train/exact/test_adapters.py::test_an_untrained_adaption_prompt_changes_nothing_and_a_trained_one_learns"
)
def test_a_trained_adaption_prompt_loads_by_one_import(run_training, base, tmp_path):
    from transformers import AutoModelForCausalLM

    ids = torch.arange(5, 45)[None]
    expected = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()(input_ids=ids).logits
    result = run_training("adapter.method=adaption_prompt", "trainer.max_steps=12", "trainer.learning_rate=3e-2")
    code = (
        "import sys, torch, kollm.train.adaption_prompt\n"
        "from peft import PeftModel; from transformers import AutoModelForCausalLM\n"
        "base, adapter, out = sys.argv[1:]\n"
        "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)\n"
        "ids = torch.arange(5, 45)[None]\n"
        "whole = model.eval()(input_ids=ids).logits\n"
        "first = model(input_ids=ids[:, :20], use_cache=True)\n"
        "rest = model(input_ids=ids[:, 20:], past_key_values=first.past_key_values).logits\n"
        "assert torch.allclose(whole[:, 20:], rest, atol=1e-4)\n"
        "from safetensors.torch import save_file; save_file({'logits': whole.detach().contiguous()}, out)\n"
    )
    out = tmp_path / "logits.safetensors"
    subprocess.run([sys.executable, "-c", code, str(base), str(result.folder), str(out)], check=True, timeout=280)
    assert not torch.allclose(load_file(out)["logits"], expected, atol=1e-3)


def test_new_tokens_are_trained_and_saved(run_training, tmp_path):
    from transformers import AutoTokenizer

    tokens = tmp_path / "tokens.txt"
    tokens.write_text("한글날\n단풍놀이\n", encoding="utf-8")
    result = run_training(f"base.new_tokens={tokens}", "trainer.max_steps=2")
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    assert len(tokenizer.tokenize("단풍놀이")) == 1
    names = [name for name in result.weights if name.endswith(("embed_in.weight", "lm_head.weight"))]
    assert len(names) == 2
    assert all(result.weights[name].shape[0] >= len(tokenizer) for name in names)
    about = read_json(result.folder / "training.json")
    assert about["recipe"]["base"]["new_tokens"] == file_sha256(tokens)
    assert load_recipe(result.folder / "recipe.yaml").base.new_tokens == "tokens.txt"
    saved = [result.folder / name for name in ("training.json", "recipe.yaml", "metrics.json", "tokenizer_config.json")]
    assert not any(str(tokens.parent / "tokens") in path.read_text(encoding="utf-8") for path in saved)

    moved = tokens.rename(tmp_path / "moved.txt")
    run_training(f"base.new_tokens={moved}", "trainer.max_steps=2")  # the same tokens: trained already
    moved.write_text("한글날\n단풍잎\n", encoding="utf-8")
    with pytest.raises(StateError, match="holds a training with another base - choose another -o"):
        run_training(f"base.new_tokens={moved}", "trainer.max_steps=2")


def test_every_target_must_match_and_the_error_lists_what_there_is(run_training, base):
    from transformers import AutoModelForCausalLM

    with pytest.raises(RecipeError, match=r"'xxx' matches no module - the model has .*query_key_value"):
        check_targets(AutoModelForCausalLM.from_pretrained(base), ("query_key_value", "xxx"))
    with pytest.raises(RecipeError, match="'q_proj' matches no module"):
        run_training("adapter.targets=[query_key_value,q_proj]", "trainer.max_steps=1")


def test_more_adaption_layers_than_the_base_has_are_refused(run_training):
    with pytest.raises(RecipeError, match=r"adapter\.adapter_layers is 9, and the base has 2 layers"):
        run_training("adapter.method=adaption_prompt", "adapter.adapter_layers=9", "trainer.max_steps=1")


def test_what_trl_refuses_is_one_sentence(run_training):
    with pytest.raises(
        RecipeError,
        match=r"the trainer section is refused \(nonsense is not a valid SchedulerType, .*\) - change it\.$",
    ):
        run_training("trainer.lr_scheduler_type=nonsense", "trainer.max_steps=1")


def test_a_seed_that_no_generator_takes_is_refused(run_training):
    with pytest.raises(RecipeError, match=r"trainer\.seed is .* - it must be 0 or more and below 2\*\*32"):
        run_training("trainer.seed=4294967296", "trainer.max_steps=1")


def test_the_watchdog_stops_a_run_that_does_not_move(run_training):
    with pytest.raises(StateError, match="After 10 steps 4 trainable tensors have not moved"):
        run_training("trainer.learning_rate=0.0", "trainer.max_steps=12")


def test_the_watchdog_stops_a_loss_that_is_not_finite():
    state = type("State", (), {"global_step": 3})()
    with pytest.raises(StateError, match="The loss is nan at step 3"):
        Watchdog().on_log(None, state, None, {"loss": float("nan")})


def test_the_watchdog_passes_over_tensors_that_another_process_holds():
    """ZeRO-3 leaves nothing of a partitioned tensor in its parameter between two steps."""
    model = torch.nn.Linear(2, 2)
    model.hidden = torch.nn.Parameter(torch.empty(0))
    state = type("State", (), {"global_step": 0})()
    watchdog = Watchdog()
    watchdog.on_train_begin(None, state, None, model)
    with torch.no_grad():
        model.weight += 1
        model.bias += 1
    state.global_step = 10
    watchdog.on_step_end(None, state, None, model)


def test_quantised_weights_and_full_training_exclude_each_other():
    from kollm.train.check import check_recipe

    with pytest.raises(RecipeError, match="quantised weights cannot be trained"):
        check_recipe(load_recipe("kullm-polyglot-5.8b", ["adapter.method=full"]))


@pytest.mark.parametrize("method", ["adaption_prompt", "ia3", "new_tokens"])
def test_what_was_trained_answers(run_training, base, tmp_path, method):
    from kollm.answer.file import read_generations
    from kollm.answer.local import generate_answers, load_system
    from kollm.answer.presets import Decoding

    overrides = [f"adapter.method={method}"]
    if method == "new_tokens":
        words = tmp_path / "words.txt"
        words.write_text("가을하늘\n노을별빛\n", encoding="utf-8")
        overrides = [f"base.new_tokens={words}"]
    elif method == "ia3":
        overrides += ["adapter.targets=[query_key_value]", "adapter.feedforward=[dense_4h_to_h]"]
    run = run_training("trainer.max_steps=2", *overrides)
    system = load_system(str(run.folder), base=str(base))
    generate_answers([make_records(1)[0]], system, tmp_path / "g.jsonl", Decoding(max_new_tokens=4))
    assert next(read_generations(tmp_path / "g.jsonl")).system == "adapter"
    assert (system.tokenizer.tokenize("가을하늘") == ["가을하늘"]) == (method == "new_tokens")
