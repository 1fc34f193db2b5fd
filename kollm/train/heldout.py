"""The loss on rows that training never sees, weighted by tokens, before the first step and after the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from kollm.train.batches import Collator
from kollm.train.data import Example


class TokenLoss(NamedTuple):
    """Mean negative log-likelihood of a supervised token, in nats, and how many there were."""

    loss: float
    tokens: int

    @property
    def over(self) -> int:
        """What the loss is a mean over."""
        return self.tokens


@torch.no_grad()  # type: ignore[untyped-decorator]
def token_loss(model: Any, accelerator: Any, examples: Sequence[Example], pad_token_id: int, rows: int) -> TokenLoss:
    """Sum the loss over all supervised tokens of all processes, then divide once.

    A mean of batch means would weigh a short answer's tokens more than a long one's, and change with the number of
    processes. Draws no random number, so that training is the same with and without it.

    Args:
        model: as wrapped for training (needed where its weights are sharded), with TRL's fused head.
        accelerator: accelerate's, for the process's share and the sum.
        examples: the held-out rows, the same list in every process.
        pad_token_id: for padding.
        rows: rows of one batch.
    """
    collate = Collator(pad_token_id, packed=False)
    ordered = sorted(examples, key=lambda example: (-len(example.input_ids), example.id))
    batches = [ordered[start : start + rows] for start in range(0, len(ordered), rows)]
    count = math.ceil(len(batches) / accelerator.num_processes)  # every process takes part in each sharded forward
    total = torch.zeros(
        2, dtype=torch.float64, device="cpu" if accelerator.device.type == "mps" else accelerator.device
    )
    was_training = model.training
    model.eval()
    keep_weight_layout(model)
    for turn in range(count):
        index = turn * accelerator.num_processes + accelerator.process_index
        batch = collate(batches[index] if index < len(batches) else [])
        batch = {key: value.to(accelerator.device) for key, value in batch.items()}
        with accelerator.autocast():
            output = model(**batch, use_cache=False, fused_lm_head=True)
        total[0] -= output.log_probs.double().sum()
        total[1] += output.label_mask.sum()
    model.train(was_training)
    total = accelerator.reduce(total, reduction="sum")
    return TokenLoss(float(total[0] / total[1].clamp(min=1)), int(total[1]))


def keep_weight_layout(model: Any) -> None:
    """Leave bitsandbytes' 4-bit layers in training mode; nothing random is in them.

    In evaluation mode on a processor they repack their weights for a kernel without gradients, and training after it
    fails.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.training = True
