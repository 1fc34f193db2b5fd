"""An optimizer step is the same rows, however many processes there are and however they are laid out."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kollm.train.batches import Collator, Layout, RunLength, StepBatches
from kollm.train.data import IGNORED, Example

LENGTHS = st.lists(st.integers(2, 64), min_size=1, max_size=60)


def steps_of(batches, epoch):
    """Rows of each step, from the microbatches that all processes get."""
    batches.epoch = epoch
    size = batches.accumulation * batches.layout.processes
    micro = list(batches)
    assert len(micro) == len(batches)
    return [sorted(row for part in micro[start : start + size] for row in part) for start in range(0, len(micro), size)]


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_layouts_agree_on_the_rows_of_every_step(lengths, global_batch, processes, device_batch, packed):
    reference = StepBatches(lengths, Layout(global_batch, 1, 1, 64, False, 7), RunLength(2))
    other = StepBatches(lengths, Layout(global_batch, processes, device_batch, 64, packed, 7), RunLength(2))
    for epoch in (0, 1):
        rows = steps_of(other, epoch)
        assert rows == steps_of(reference, epoch)
        assert sorted(row for step in rows for row in step) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4))
def test_packed_microbatches_stay_within_their_capacity(lengths, global_batch, processes):
    batches = StepBatches(lengths, Layout(global_batch, processes, 1, 64, True, 7), RunLength(1))
    assert all(sum(lengths[row] for row in part) <= 64 for part in batches)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4))
def test_padded_microbatches_have_at_most_the_device_batch(lengths, global_batch, device_batch):
    batches = StepBatches(lengths, Layout(global_batch, 1, device_batch, 64, False, 7), RunLength(1))
    assert all(len(part) <= device_batch for part in batches)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4), st.integers(1, 40))
def test_a_run_of_steps_counts_on_each_epoch_that_it_sees(lengths, global_batch, processes, steps):
    """Packed, a later epoch can need more microbatches a step than the first: none may lose its place."""
    batches = StepBatches(lengths, Layout(global_batch, processes, 1, 64, True, 7), RunLength(steps=steps))
    for epoch in range(math.ceil(steps / batches.steps)):
        assert [sorted(rows) for rows in batches.step_rows(epoch)] == steps_of(batches, epoch)


def test_a_run_is_as_long_as_its_steps_where_they_are_given_and_its_epochs_else():
    assert RunLength(5).epochs_of(7) == 5
    assert RunLength(2.5).epochs_of(7) == 3
    assert RunLength(5, 15).epochs_of(7) == 3
    assert RunLength(5, 14).epochs_of(7) == 2


def test_epochs_are_shuffled_anew_and_seeds_differ():
    def first(seed, epoch):
        return next(StepBatches([4] * 50, Layout(8, 1, 8, 64, False, seed), RunLength(1)).step_rows(epoch))

    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)
    assert first(1, 0) == first(1, 0)


def test_token_counts_are_exact():
    lengths = [3, 5, 8, 13]
    supervised = [1, 2, 3, 4]
    padded = StepBatches(lengths, Layout(4, 1, 2, 64, False, 0), RunLength(1), supervised).tokens(0, 1)
    assert padded == (29, 13 * 2 + 5 * 2, 10)
    packed = StepBatches(lengths, Layout(4, 1, 1, 64, True, 0), RunLength(1), supervised).tokens(0, 2)
    assert packed == (58, 58, 20)
    cut = StepBatches(lengths, Layout(2, 1, 2, 64, False, 0), RunLength(1), supervised)
    first = next(cut.step_rows(0))
    assert cut.tokens(0, 1).supervised == sum(supervised[row] for row in first)


def example(*ids):
    values = np.asarray(ids, dtype=np.int32)
    return Example("x", values, values.copy())


def test_packed_rows_keep_their_boundaries():
    batch = Collator(0, packed=True)([example(5, 6, 7), example(8, 9)])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5]
    assert batch["cu_seq_lens_q"].dtype == torch.int32
    assert batch["max_length_q"] == 3
    assert batch["labels"].tolist() == [[IGNORED, 6, 7, IGNORED, 9]]
    assert "attention_mask" not in batch


def test_padding_stands_behind_a_row_and_a_microbatch_without_rows_carries_no_loss():
    batch = Collator(1, packed=False)([example(5, 6, 7), example(8, 9)])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 1]]
    assert "attention_mask" not in batch, "no token of a row looks at the padding behind it"
    assert batch["labels"].tolist() == [[5, 6, 7], [8, 9, IGNORED]]
    for packed in (True, False):
        assert (Collator(1, packed)([])["labels"] == IGNORED).all()
