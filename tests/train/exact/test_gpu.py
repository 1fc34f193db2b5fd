"""What only a GPU can show: the variable-length kernel, quantised bases, sharded configs, and a full memory."""

import contextlib
import subprocess
import sys

import pytest
import torch

from kollm.core.errors import StateError
from kollm.core.files import read_json
from kollm.train import attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS = (1, 130, 7, 511, 64)


def reference(query, key, value, lengths):
    """Causal attention of each row apart, in float64; shapes (1, heads, tokens, head size)."""
    parts = []
    for rows in zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True):
        parts.append(torch.nn.functional.scaled_dot_product_attention(*rows, is_causal=True))
    return torch.cat(parts, dim=2)


def distance(found, expected):
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.parametrize(("heads", "size"), [(4, 64), (8, 128), (4, 256)])
def test_the_kernel_in_bf16_computes_each_row_apart_forward_and_back(heads, size):
    generator = torch.Generator("cuda").manual_seed(size)
    shape = (1, heads, sum(LENGTHS), size)
    states = [torch.randn(shape, device="cuda", generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    upstream = torch.randn((1, sum(LENGTHS), heads, size), device="cuda", generator=generator).bfloat16()
    boundaries = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32, device="cuda")
    edges = {"cu_seq_lens_q": boundaries, "cu_seq_lens_k": boundaries, "max_length_q": 511, "max_length_k": 511}
    output, _ = attention.varlen_attention(None, *states, None, size**-0.5, **edges)  # type: ignore[call-arg]
    output.backward(upstream)
    exact = [part.detach().double().requires_grad_() for part in states]
    expected = reference(*exact, LENGTHS).transpose(1, 2)  # type: ignore[call-arg]
    expected.backward(upstream.double())
    assert output.shape == expected.shape
    assert distance(output, expected) < 5e-3
    for part, twin in zip(states, exact, strict=True):
        assert distance(part.grad, twin.grad) < 1e-2


def test_packed_training_by_the_kernel_is_padded_training(run_training, make_toy):
    base = make_toy(hidden_size=256, heads=2)
    shared = ("trainer.max_steps=20", "base.dtype=bfloat16")
    padded = run_training(*shared, name="padded", base_folder=base)
    packed = run_training(*shared, "trainer.packing=true", name="packed", base_folder=base)
    assert padded.losses == pytest.approx(packed.losses, abs=2e-2)
    assert padded.losses[-1] < padded.losses[0]
    exact = run_training("trainer.max_steps=20", "trainer.packing=true", name="float32", base_folder=base)
    assert exact.losses == pytest.approx(packed.losses, abs=5e-2), "float32, where sdpa computes row by row"


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "adaption_prompt"])
def test_every_adapter_moves_on_every_kind_of_base(run_training, method, quantization):
    settings = ["base.dtype=bfloat16", f"quantization={quantization}", "trainer.max_steps=12"]
    if method == "ia3":
        settings += ["adapter.feedforward=[dense_4h_to_h]", "trainer.learning_rate=5e-5"]
    result = run_training(f"adapter.method={method}", *settings)  # the watchdog looks after ten steps
    assert {weight.dtype for weight in result.weights.values()} == {torch.float32}
    assert result.metrics["steps"] == 12


def test_resuming_on_a_gpu_gives_the_same_losses(run_training, tmp_path, monkeypatch):
    settings = ("trainer.max_steps=8", "trainer.save_steps=4", "base.dtype=bfloat16", "adapter.dropout=0.1")
    whole = run_training(*settings, name="whole")
    from kollm.train import sft

    class StopError(Exception):
        pass

    saved = sft.StepTrainer._save_checkpoint

    def stop(self, *args):
        saved(self, *args)
        raise StopError

    monkeypatch.setattr(sft.StepTrainer, "_save_checkpoint", stop)
    with pytest.raises(StopError):
        run_training(*settings, name="cut")
    monkeypatch.setattr(sft.StepTrainer, "_save_checkpoint", saved)
    resumed = run_training(*settings, name="cut")
    assert resumed.losses == whole.losses
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in whole.weights.items())


@contextlib.contextmanager
def memory(size):
    """Allow this process so many bytes more of the card."""
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + size) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_full_memory_is_said_in_one_sentence_and_written_down(run_training, make_toy, tmp_path):
    settings = ("trainer.max_steps=2", "global_batch_size=64", "trainer.per_device_train_batch_size=64")
    base = make_toy(hidden_size=512, heads=2, layers=4)  # 52 MB in fp32
    with memory(2**28), pytest.raises(StateError, match=r"memory is full at trainer\.per_device_train_batch_size=64"):
        run_training(*settings, base_folder=base)
    assert read_json(tmp_path / "adapter" / "checkpoints" / "out_of_memory.json") == {"device_batch": 64}
    with memory(2**24), pytest.raises(StateError, match="weights do not fit"):
        run_training(*settings, name="weights", base_folder=base)


def test_compiled_layers_train_as_the_others_and_are_saved_under_the_same_names(run_training, make_toy):
    base = make_toy(hidden_size=256, heads=2)
    shared = ("trainer.max_steps=12", "base.dtype=bfloat16", "trainer.packing=true")
    plain = run_training(*shared, name="plain", base_folder=base)
    compiled = run_training(*shared, "trainer.torch_compile=true", name="compiled", base_folder=base)
    assert compiled.weights.keys() == plain.weights.keys()
    assert compiled.losses == pytest.approx(plain.losses, abs=2e-2)


@pytest.mark.parametrize(
    ("config", "wrapper"),
    [
        ("single_gpu", "PeftModelForCausalLM"),
        ("fsdp2_4gpu", "FSDPPeftModelForCausalLM"),
        ("zero2_4gpu", "DeepSpeedEngine"),
        ("zero3_4gpu", "DeepSpeedEngine"),
    ],
)
def test_the_shipped_configs_start_with_the_wrapper_that_they_name(dataset, base, overrides, tmp_path, config, wrapper):
    """With one process, since one card is what a test can count on; the wrapper is the one that four would have."""
    if wrapper == "DeepSpeedEngine":
        pytest.importorskip("deepspeed")
    output = tmp_path / "adapter"
    settings = [*overrides, "trainer.max_steps=3", "base.dtype=bfloat16", "trainer.save_steps=2"]
    command = [sys.executable, "-m", "kollm", "train", "demo", "--dataset", str(dataset), "--base", str(base)]
    command += ["-o", str(output), "--config", config, "--processes", "1"]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    about, metrics = read_json(output / "training.json"), read_json(output / "metrics.json")
    assert about["hardware"]["wrapper"] == wrapper
    assert metrics["steps"] == 3
