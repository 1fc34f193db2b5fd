"""Which rows make an optimizer step, and how a step's rows are cut into microbatches.

An epoch is one permutation of the rows, drawn from seed and epoch alone; step k takes its rows from place k *
global_batch on. How many processes there are, and whether rows are padded or packed, decides only how the same rows of
a step are laid out, so that all layouts compute the same token-weighted gradient.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from kollm.train.data import IGNORED, Example


@dataclass(frozen=True, slots=True)
class Layout:
    """How a step's rows are laid out.

    Attributes:
        global_batch: rows of one optimizer step, over all processes.
        processes: number of processes that share a step.
        device_batch: rows of one padded microbatch; for packed ones, how often `max_length` tokens fit.
        max_length: longest row, in tokens.
        packed: rows are concatenated without padding instead of padded to the longest.
        seed: of the permutations.
    """

    global_batch: int
    processes: int
    device_batch: int
    max_length: int
    packed: bool
    seed: int


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long a run is: in epochs (a part of one counts as one), or in optimizer steps where `steps` is above zero."""

    epochs: float = 1
    steps: int = -1

    def epochs_of(self, steps_per_epoch: int) -> int:
        """Epochs that the run sees, the last one perhaps in part."""
        return math.ceil(self.steps / steps_per_epoch) if self.steps > 0 else math.ceil(self.epochs)

    def steps_of(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the run, as transformers counts them."""
        return self.steps if self.steps > 0 else math.ceil(self.epochs * steps_per_epoch)


class TokenCount(NamedTuple):
    """Tokens of data, tokens that the model computed, padding included, and tokens under the loss."""

    real: int
    computed: int
    supervised: int


class StepBatches:
    """A batch sampler for torch's DataLoader: yields row indices, one list a microbatch.

    A step is `accumulation * processes` microbatches, dealt to the processes in turn; all have nearly the same size. An
    epoch's last step may have fewer rows, down to empty microbatches, which the collator fills with a row without loss.

    `epoch` is set by `EpochStart` alone. It has no `set_epoch`, by which accelerate's loaders hand an epoch down: through
    the wrappers of several processes and of skipped batches they reach some samplers and not others.

    Args:
        lengths: tokens of each row.
        layout: see `Layout`.
        length: of the run.
        supervised: tokens under the loss of each row; for counting alone.
    """

    batch_size = None  # sizes vary: tells accelerate to shard by microbatch
    drop_last = False

    def __init__(
        self, lengths: Sequence[int], layout: Layout, length: RunLength, supervised: Sequence[int] | None = None
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.supervised = np.zeros_like(self.lengths) if supervised is None else np.asarray(supervised)
        self.layout = layout
        self.epoch = 0
        self.steps = math.ceil(len(lengths) / layout.global_batch)
        self.accumulation = self._accumulation(length.epochs_of(self.steps))

    def __len__(self) -> int:
        return self.steps * self.accumulation * self.layout.processes

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.step_rows(self.epoch):
            yield from self._microbatches(rows)

    def step_rows(self, epoch: int) -> Iterator[list[int]]:
        """The row indices of each optimizer step of an epoch."""
        order = np.random.default_rng([self.layout.seed, epoch]).permutation(len(self.lengths))
        for start in range(0, len(order), self.layout.global_batch):
            yield order[start : start + self.layout.global_batch].tolist()

    def tokens(self, first_step: int, last_step: int) -> TokenCount:
        """Tokens of the optimizer steps `first_step` to `last_step` of a run, counted from 0, the last one excluded."""
        real = computed = supervised = 0
        wanted = range(first_step, last_step)
        for epoch in range(math.ceil(last_step / self.steps)):
            for index, rows in enumerate(self.step_rows(epoch)):
                if epoch * self.steps + index in wanted:
                    supervised += int(self.supervised[rows].sum())
                    for part in filter(None, self._microbatches(rows)):
                        lengths = self.lengths[part]
                        real += int(lengths.sum())
                        computed += int(lengths.sum() if self.layout.packed else len(part) * lengths.max())
        return TokenCount(real, computed, supervised)

    def _accumulation(self, epochs: int) -> int:
        """Microbatches a process and step: as many as the fullest step of the run needs."""
        layout = self.layout
        if not layout.packed:
            return math.ceil(min(layout.global_batch, len(self.lengths)) / (layout.processes * layout.device_batch))
        capacity = layout.max_length * layout.device_batch
        bins = max(_bins(self.lengths[rows], capacity) for epoch in range(epochs) for rows in self.step_rows(epoch))
        return math.ceil(bins / layout.processes)

    def _microbatches(self, rows: list[int]) -> list[list[int]]:
        """Deal the rows, longest first: packed ones to the emptiest bin, padded ones in runs of like length."""
        count = self.accumulation * self.layout.processes
        rows = sorted(rows, key=lambda row: (-self.lengths[row], row))
        if not self.layout.packed:
            return [part.tolist() for part in np.array_split(np.asarray(rows, dtype=int), count)]
        capacity = self.layout.max_length * self.layout.device_batch
        bins = _balanced(rows, self.lengths, count)
        if max(int(self.lengths[part].sum()) for part in bins if part) > capacity:
            bins = _best_fit(rows, self.lengths, capacity)
            assert len(bins) <= count, f"{len(bins)} microbatches for {count}: this epoch was not counted on"
            bins += [[] for _ in range(count - len(bins))]
        return sorted(bins, key=lambda part: -int(self.lengths[part].sum()) if part else 0)


def _balanced(rows: Sequence[int], lengths: Any, count: int) -> list[list[int]]:
    """Each row, longest first, to the bin with the fewest tokens."""
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, index) for index in range(count)]
    for row in rows:
        tokens, index = heapq.heappop(heap)
        bins[index].append(row)
        heapq.heappush(heap, (tokens + int(lengths[row]), index))
    return bins


def _best_fit(rows: Sequence[int], lengths: Any, capacity: int) -> list[list[int]]:
    """Each row, longest first, to the fullest bin that still has room for it."""
    bins: list[list[int]] = []
    room: list[int] = []
    for row in rows:
        length = int(lengths[row])
        fitting = [index for index, left in enumerate(room) if left >= length]
        if fitting:
            index = min(fitting, key=room.__getitem__)
        else:
            bins.append([])
            room.append(capacity)
            index = len(bins) - 1
        bins[index].append(row)
        room[index] -= length
    return bins


def _bins(lengths: Any, capacity: int) -> int:
    order = np.argsort(-lengths, kind="stable")
    return len(_best_fit(order.tolist(), lengths, capacity))


class Collator:
    """Examples into the tensors of one microbatch.

    Padded: `input_ids` and `labels` of shape (rows, longest), and no attention mask: padding stands behind a row, where
    a causal model's tokens never look, and without a mask torch takes its fast kernels; a mixture of experts alone needs
    the mask (`masks_padding`), since its auxiliary loss counts where tokens go. Packed: one row of all tokens, with
    `position_ids` that begin at 0 in each example, the boundaries as `cu_seq_lens_q/k` (int32, examples + 1) and
    `max_length_q/k`, and the label of each example's first token ignored, since its context is another example.
    """

    def __init__(self, pad_token_id: int, packed: bool) -> None:
        self.pad_token_id, self.packed = pad_token_id, packed
        self.masks_padding = False

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        # A microbatch without rows keeps its process in step with the others and adds nothing to the loss.
        filler = np.asarray([self.pad_token_id, self.pad_token_id], dtype=np.int32)
        rows = [(e.input_ids, e.labels) for e in examples] or [(filler, np.full(2, IGNORED, dtype=np.int32))]
        return self._pack(rows) if self.packed else self._pad(rows)

    def _pad(self, rows: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        shape = (len(rows), max(len(ids) for ids, _ in rows))
        input_ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for index, (ids, row_labels) in enumerate(rows):
            input_ids[index, : len(ids)] = ids
            labels[index, : len(ids)] = row_labels
            mask[index, : len(ids)] = 1
        batch = {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
        return {**batch, "attention_mask": torch.from_numpy(mask)} if self.masks_padding else batch

    def _pack(self, rows: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        lengths = [len(ids) for ids, _ in rows]
        positions = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
        labels = np.concatenate([labels for _, labels in rows]).astype(np.int64)
        labels[positions == 0] = IGNORED
        boundaries = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32)
        return {
            "input_ids": torch.from_numpy(np.concatenate([ids for ids, _ in rows]).astype(np.int64))[None],
            "labels": torch.from_numpy(labels)[None],
            "position_ids": torch.from_numpy(positions)[None],
            "cu_seq_lens_q": boundaries,
            "cu_seq_lens_k": boundaries,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
        }
