"""How far preference tuning has moved a model: the KL divergence from the reference, on answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from kollm.services.local_model import LocalModel
from kollm.train.evaluation import Question, questions
from kollm.train.heldout import keep_weight_layout
from kollm.train.preference import PreferenceTrainer

PROMPTS = 32
LONGEST_ANSWER = 64
SEED = 0


@torch.no_grad()  # type: ignore[untyped-decorator]
def kl_to_reference(trainer: PreferenceTrainer, start: LocalModel | None, ends: Sequence[int]) -> float | None:
    """Mean KL divergence of the trained model from the one that training started from, a token of its own answers, in nats.

    The trained model answers the first held-out prompts, drawn with a fixed seed; at each token both whole distributions are
    compared, so that the draw decides the text alone. Runs in one process.

    Args:
        trainer: its training has ended.
        start: the adapter that training started from; None where the base alone is the reference.
        ends: ids that end an answer.

    Returns:
        The divergence; None where nothing is held out, where all weights are trained, or where they are shared over processes.
    """
    model: Any = trainer.model
    asked = questions(trainer.heldout, PROMPTS)
    if not asked or not isinstance(model, PeftModel) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return None
    was_training = model.training
    model.eval()
    keep_weight_layout(model)
    total, count = 0.0, 0
    first = None if start is None else load_file(start.folder / "adapter_model.safetensors")
    with torch.random.fork_rng(), trainer.accelerator.autocast():
        torch.manual_seed(SEED)
        for question in asked:  # one at a time: a distribution is as wide as the vocabulary
            answered = _answered(trainer, question, ends)
            now = _distributions(model, *answered)
            with _as_reference(model, first):
                before = _distributions(model, *answered)
            total += float((now.exp() * (now - before)).sum())
            count += len(now)
    model.train(was_training)
    return round(total / count, 6) if count else None


def _answered(trainer: PreferenceTrainer, question: Question, ends: Sequence[int]) -> tuple[list[int], int]:
    """A prompt with the model's own answer, and how many tokens the prompt has."""
    model: Any = trainer.model
    ids = torch.tensor([question.tokens], device=model.device)
    said = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LONGEST_ANSWER,
        do_sample=True,
        eos_token_id=list(ends) or None,
        pad_token_id=trainer.processing_class.pad_token_id,
    )
    return said[0].tolist(), len(question.tokens)


def _distributions(model: Any, tokens: list[int], asked: int) -> torch.Tensor:
    """Log-probabilities before each token of the answer, shape (tokens, vocabulary), on the processor."""
    logits = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0, asked - 1 : -1]
    return logits.float().log_softmax(-1).cpu()


@contextmanager
def _as_reference(model: Any, first: dict[str, torch.Tensor] | None) -> Iterator[None]:
    """The model as it was before training: without its adapter, or with the adapter's first weights in place of the trained ones."""
    if first is None:
        with model.disable_adapter():
            yield
        return
    trained = {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, first)
    try:
        yield
    finally:
        set_peft_model_state_dict(model, trained)
