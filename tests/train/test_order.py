"""A training that was killed goes on with the rows that it would have had: the ids of every step, in every process.

The loop is transformers' own, the loader accelerate's own with its wrappers for several processes and for skipped
batches; each process is run by itself, with a model whose steps cost nothing and note the rows that they are given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from kollm.train.batches import Layout
from kollm.train.data import Example
from kollm.train.sft import StepTrainer, TrainingRows
from tests.train.tiny import trainer_arguments, word_tokenizer

ROWS, GLOBAL_BATCH, EPOCHS, MAX_LENGTH = 22, 6, 5, 16
STEPS = 4
"""Optimizer steps of an epoch; the last has four rows."""
KILLS = [
    *(1, STEPS - 1, STEPS, STEPS + 1),  # in the first epoch, and before, at and after its end
    *(2 * STEPS - 1, 2 * STEPS, 3 * STEPS - 1, 3 * STEPS, 4 * STEPS, 4 * STEPS + 1, 5 * STEPS - 1),
]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Rows of 2 to 12 tokens; a row's tokens are its number, so that a batch tells which rows it holds."""
    made = []
    for number in range(ROWS):
        ids = np.full(2 + number * 5 % 11, number + 1, dtype=np.int32)
        made.append(Example(f"row-{number}", ids, ids.copy()))
    return made


class OneProcess(StepTrainer):
    """One process of several: its loader is what accelerate gives that process; its steps note rows and train nothing."""

    rank: int
    rows: dict[int, list[list[int]]]

    def get_train_dataloader(self) -> Any:
        loader = torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )
        return prepare_data_loader(
            loader, num_processes=self.step_layout.processes, process_index=self.rank, even_batches=False
        )

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        seen = inputs["input_ids"][inputs["labels"] != -100].unique().tolist()
        self.rows[self.state.global_step + 1].append(seen)
        return torch.zeros(())

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        """Nothing: the weights decide no order."""


@pytest.fixture(params=[(count, packed) for count in (1, 2, 4) for packed in (False, True)], ids=str)
def processes(request: Any, examples: list[Example], tmp_path: Path) -> list[OneProcess]:
    count, packed = request.param
    config = {"vocab_size": ROWS + 1, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**config, intermediate_size=4))
    trainers = []
    for rank in range(count):
        arguments = trainer_arguments(tmp_path, num_train_epochs=EPOCHS)
        layout = Layout(GLOBAL_BATCH, count, 2, MAX_LENGTH, packed, seed=3)
        tokenizer = word_tokenizer(ROWS)
        trainer = OneProcess(model, arguments, TrainingRows(examples, [], tokenizer), layout, None)
        trainer.rank = rank
        trainers.append(trainer)
    return trainers


def rows_of(trainer: OneProcess, checkpoint: Path | None = None) -> dict[int, list[list[int]]]:
    """Rows of each microbatch of each step, counted from 1."""
    trainer.rows = defaultdict(list)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return dict(trainer.rows)


def checkpoint_at(folder: Path, step: int) -> Path:
    """What transformers reads of a checkpoint to know how far it is."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    state = {"global_step": step, "epoch": step / STEPS, "train_batch_size": 2, "stateful_callbacks": {}}
    (path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return path


def test_each_step_of_a_resumed_run_has_the_rows_of_the_undisturbed_run(
    processes: list[OneProcess], tmp_path: Path
) -> None:
    whole = [rows_of(trainer) for trainer in processes]
    for step in range(1, EPOCHS * STEPS + 1):
        epoch, place = divmod(step - 1, STEPS)
        expected = [number + 1 for number in list(processes[0].batches.step_rows(epoch))[place]]
        assert sorted(row for rank in whole for part in rank[step] for row in part) == sorted(expected)
    for step in KILLS:
        checkpoint = checkpoint_at(tmp_path, step)
        for trainer, undisturbed in zip(processes, whole, strict=True):
            resumed = rows_of(trainer, checkpoint)
            assert resumed == {at: rows for at, rows in undisturbed.items() if at > step}, f"killed after {step}"
