"""The losses of preference tuning: the papers' formulas, and TRL's own trainers on the same tokens and weights."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from kollm.recipe.load import parse_recipe
from kollm.recipe.methods import METHODS, method_settings
from kollm.train.data import IGNORED, Example
from kollm.train.job import make_trainer
from kollm.train.pairs import PairExample, with_mismatched
from kollm.train.preference import PreferenceTrainer
from kollm.train.preference_losses import Given, Said, loss_of
from kollm.train.sft import TrainingRows, trainer_config
from tests.train.tiny import tiny_model, word_tokenizer

LORA = LoraConfig(r=2, lora_alpha=4, target_modules=["query_key_value"])
TARGETS = {"method": "lora", "r": 2, "alpha": 4, "dropout": 0.0, "targets": ["query_key_value"]}


def said(*rows: tuple[float, float, int, int]) -> Said:
    columns = list(zip(*rows, strict=True))
    numbers = [
        torch.tensor(column, dtype=torch.float64, requires_grad=place < 2) for place, column in enumerate(columns[:2])
    ]
    return Said(numbers[0], numbers[1], torch.tensor(columns[2]), torch.tensor(columns[3]))


POLICY = [(-12.0, -15.0, 6, 5), (-30.0, -20.0, 12, 9), (-3.5, -3.0, 2, 3)]
REFERENCE = (torch.tensor([-13.0, -28.0, -3.0]), torch.tensor([-14.0, -21.0, -3.5]))
DIVERGENCE = torch.tensor(0.7)


def values_of(method: Any, **trainer: Any) -> list[float]:
    given = Given(said(*POLICY), (REFERENCE[0].double(), REFERENCE[1].double()), DIVERGENCE.double())
    return [float(value) for value in loss_of(method)(given, method_settings(method, trainer)).values.detach()]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_papers_formulas_written_out() -> None:
    rows = list(zip(POLICY, REFERENCE[0].tolist(), REFERENCE[1].tolist(), strict=True))
    ahead = [(c - rc) - (r - rr) for (c, r, _, _), rc, rr in rows]
    assert values_of("dpo") == pytest.approx([-math.log(sigmoid(0.1 * d)) for d in ahead])
    assert values_of("dpo", loss_type="hinge", beta=0.2) == pytest.approx([max(0.0, 1 - 0.2 * d) for d in ahead])
    by_token = [(c - rc) / n - (r - rr) / m for (c, r, n, m), rc, rr in rows]
    assert values_of("dpo", loss_type="ipo") == pytest.approx([(d - 5.0) ** 2 for d in by_token])
    kto = [
        (1 - sigmoid(0.1 * (c - rc - 0.7)) + 2 * (1 - sigmoid(0.1 * (0.7 - (r - rr))))) / 2
        for (c, r, _, _), rc, rr in rows
    ]
    assert values_of("kto", undesirable_weight=2.0) == pytest.approx(kto)
    odds = [
        math.exp(c / n) / (1 - math.exp(c / n)) / (math.exp(r / m) / (1 - math.exp(r / m))) for (c, r, n, m), *_ in rows
    ]
    assert values_of("orpo") == pytest.approx([-0.1 * math.log(sigmoid(math.log(ratio))) for ratio in odds])
    simpo = [-math.log(sigmoid(2.0 / n * c - 2.0 / m * r - 1.0)) for (c, r, n, m), *_ in rows]
    assert values_of("simpo") == pytest.approx(simpo)


@pytest.mark.parametrize("method", ["orpo", "simpo"])
def test_trls_experimental_losses_say_the_same_with_the_same_gradients(method: Any) -> None:
    ours, theirs = said(*POLICY), said(*POLICY)
    given = Given(ours, (torch.zeros(3), torch.zeros(3)), torch.zeros(()))
    values = loss_of(method)(given, method_settings(method, {})).values
    means = (theirs.chosen / theirs.chosen_tokens, theirs.rejected / theirs.rejected_tokens)
    device = SimpleNamespace(device=torch.device("cpu"))
    if method == "orpo":
        found = -ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=0.1, accelerator=device), *means)[0]
    else:
        settings = {"beta": 2.0, "simpo_gamma": 1.0, "alpha": 0.0, "label_smoothing": 0.0, "loss_type": "simpo"}
        found = CPOTrainer.cpo_loss(SimpleNamespace(**settings, accelerator=device), *means)[0]
    assert values.tolist() == pytest.approx(found.tolist(), abs=1e-6)
    values.sum().backward()
    found.sum().backward()
    for side in ("chosen", "rejected"):
        assert getattr(ours, side).grad.tolist() == pytest.approx(getattr(theirs, side).grad.tolist(), abs=1e-6)


def pairs(count: int) -> list[PairExample]:
    generator = random.Random(5)

    def row(prompt: list[int]) -> Any:
        answer = [generator.randrange(3, 60) for _ in range(generator.randrange(2, 9))]
        ids, labels = [*prompt, *answer], [IGNORED] * len(prompt) + answer
        return Example("x", np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32))

    prompts = [[generator.randrange(3, 60) for _ in range(generator.randrange(3, 8))] for _ in range(count)]
    return [PairExample(str(n), row(prompt), row(prompt)) for n, prompt in enumerate(prompts)]


def parts(row: Any) -> tuple[list[int], list[int]]:
    asked = int((row.labels == IGNORED).sum())
    return row.input_ids[:asked].tolist(), row.input_ids[asked:].tolist()


def drawn(model: Any) -> None:
    """The same values in every LoRA matrix."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)


def ours(
    method: str, examples: list[PairExample], folder: Path, **trainer: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step of kollm's trainer on all pairs, in two microbatches."""
    recipe = parse_recipe(
        {
            "method": method,
            "base": {"model": "toy:gpt_neox", "dtype": "float32"},
            "adapter": TARGETS,
            "global_batch_size": len(examples),
            "trainer": {
                "max_length": 64,
                "per_device_train_batch_size": -(-len(examples) // 2),
                "max_steps": 1,
                **trainer,
            },
        },
        "tiny",
    )
    torch.manual_seed(0)
    rows = TrainingRows(examples, [], word_tokenizer(63))
    made = make_trainer(recipe, trainer_config(recipe, folder), tiny_model("gpt_neox"), rows, 1)
    assert isinstance(made, PreferenceTrainer)
    made.model_wrapped, made.state.max_steps = made.model, 1
    made.reference = {"train": made.measure(examples)}
    drawn(made.model)
    samples, _ = made.get_batch_samples(iter(made.get_train_dataloader()), 2, torch.device("cpu"))
    total = torch.zeros(())
    for batch in samples:
        loss = made.compute_loss(made.model, dict(batch), num_items_in_batch=1)
        loss.backward()
        total = total + loss.detach()
    gradients = {name: parameter.grad for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    return float(total), gradients


def theirs(kind: Any, settings: Any, rows: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = tiny_model("gpt_neox")
    first = {
        "prompt": ["1 2"] * 2,
        **(
            {"chosen": ["3", "4"], "rejected": ["5", "6"]}
            if kind is DPOTrainer
            else {"completion": ["3", "4"], "label": [True, False]}
        ),
    }
    trainer = kind(
        model,
        args=settings,
        train_dataset=Dataset.from_dict(first),
        processing_class=word_tokenizer(63),
        peft_config=LORA,
    )
    drawn(trainer.model)
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    return float(loss), {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}


def same(first: tuple[float, dict[str, torch.Tensor]], second: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert first[0] == pytest.approx(second[0], rel=5e-6, abs=1e-6)
    assert first[1].keys() == second[1].keys() and len(first[1]) > 2
    for name, gradient in first[1].items():
        other = second[1][name]  # of all its values, since processors sum in different orders
        assert float((gradient - other).norm()) <= 1e-5 * float(other.norm()) + 1e-6, name
    assert max(float(gradient.abs().max()) for gradient in first[1].values()) > 1e-4


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "robust"])
def test_dpo_is_trls_own(loss_type: str, tmp_path: Path) -> None:
    examples = pairs(5)
    smoothing = {"label_smoothing": 0.1} if loss_type == "robust" else {}
    settings = DPOConfig(
        str(tmp_path),
        loss_type=[loss_type],
        beta=0.3,
        use_cpu=True,
        report_to=[],
        bf16=False,
        gradient_checkpointing=False,
        **smoothing,
    )
    rows = [
        {
            "prompt_ids": parts(pair.chosen)[0],
            "chosen_ids": parts(pair.chosen)[1],
            "rejected_ids": parts(pair.rejected)[1],
        }
        for pair in examples
    ]
    same(
        ours("dpo", examples, tmp_path, loss_type=loss_type, beta=0.3, **smoothing), theirs(DPOTrainer, settings, rows)
    )


def test_kto_is_trls_own(tmp_path: Path) -> None:
    examples = with_mismatched(pairs(5), 64)
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.5}
    settings = KTOConfig(
        str(tmp_path),
        beta=0.3,
        use_cpu=True,
        report_to=[],
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        train_sampling_strategy="sequential",
        **weights,
    )
    rows = []
    for pair in examples:
        assert pair.mismatched is not None
        for row, other, label in ((pair.chosen, pair.mismatched[0], True), (pair.rejected, pair.mismatched[1], False)):
            prompt, answer = parts(row)
            rows.append(
                {"prompt_ids": prompt, "completion_ids": answer, "KL_completion_ids": parts(other)[1], "label": label}
            )
    same(ours("kto", examples, tmp_path, beta=0.3, **weights), theirs(KTOTrainer, settings, rows))


def test_a_methods_keys_are_those_of_trls_configuration() -> None:
    import trl.experimental.cpo
    import trl.experimental.orpo

    for method in METHODS.values():
        home = {"ORPOConfig": trl.experimental.orpo, "CPOConfig": trl.experimental.cpo}.get(method.config, trl)
        known = getattr(home, method.config).__dataclass_fields__
        assert set(method.keys) <= set(known), method.config
