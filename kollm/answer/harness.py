"""Public benchmarks, asked through lm-evaluation-harness: its tasks and metrics, kollm's models and prompts.

A model is loaded as `kollm generate` loads it, so that an adapter is asked in the prompt that it was trained with: the
question goes through the tokenizer's chat template, and solved examples stand before it as earlier turns. Each task is
written down when it is done; a stopped run goes on with the next.
"""

from __future__ import annotations

import io
import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from kollm.answer.local import System
from kollm.core.benchmarks import BenchmarkScore, Score, check_same_way, read_benchmarks, write_benchmarks
from kollm.core.counting import counted
from kollm.core.errors import InputError, ServiceError
from kollm.core.hashing import canonical_json, content_id, text_sha256
from kollm.core.progress import say
from kollm.recipe.tokens import plain_ids

HARNESS = f"lm-evaluation-harness {lm_eval.__version__}"
SEED = 1234
"""The harness's default for solved examples, numpy and torch."""
THINK_END = "</think>"
"""What ends the reasoning of a thinking template: the harness reads the answer behind it."""
_CODE = ("!function", "class:")
"""What makes a task's file run code that lies beside it."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How the tasks are asked.

    Attributes:
        shots: solved examples before each question; None for what each task takes.
        limit: ask about the first documents of each task only.
        batch_size: questions at a time.
        raw: give each task's text as it stands, without a prompt template, as is usual for a base.
    """

    shots: int | None = None
    limit: int | None = None
    batch_size: int = 16
    raw: bool = False


class Benchmarks(NamedTuple):
    """Loaded tasks: the single ones and the groups over them, by name."""

    tasks: dict[str, Any]
    groups: dict[str, Any]


def find_tasks(names: Sequence[str], include: Path | None = None) -> TaskManager:
    """The harness's index, once it is found to know every name.

    Args:
        names: tasks and groups.
        include: folder with task files of one's own, which must need no code.

    Raises:
        InputError: a name is unknown, or a task file of the folder runs code.
    """
    if include is not None:
        _refuse_code(include)
    if not names:
        raise InputError("There is no task to ask - name some: --tasks kmmlu,haerae,kobest.")
    with _quiet():
        # The harness's own index takes seconds, and is not needed where the folder has all.
        if include is not None:
            manager = TaskManager(include_path=str(include), include_defaults=False)
            if set(names) <= set(manager.all_tasks):
                return manager
        manager = TaskManager(include_path=None if include is None else str(include))
    if unknown := [name for name in names if name not in manager.all_tasks]:
        import difflib

        close = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
        raise InputError(
            f"lm-evaluation-harness {lm_eval.__version__} has no task '{unknown[0]}'"
            + (f" - did you mean {', '.join(close)}?" if close else " - name one of its tasks or groups.")
        )
    return manager


def load_tasks(manager: TaskManager, names: Sequence[str]) -> Benchmarks:
    """The tasks with their documents, which come from the Hub or from the files that a task names.

    Raises:
        InputError: two names hold the same task.
        ServiceError: documents that cannot be had.
    """
    try:
        with _quiet():
            loaded = manager.load(list(names))
    except ValueError as error:
        if "Duplicate task" in str(error):
            raise InputError(f"The tasks overlap: {error} - name each once.") from error
        raise ServiceError(f"The tasks {', '.join(names)} cannot be loaded: {_line(error)}") from error
    except (OSError, ConnectionError, RuntimeError, ImportError) as error:
        raise ServiceError(
            f"The documents of {', '.join(names)} cannot be had: {_line(error)} - check the connection and HF_TOKEN."
        ) from error
    return Benchmarks(dict(loaded["tasks"]), dict(loaded.get("groups", {})))


def run_benchmarks(system: System, benchmarks: Benchmarks, asking: Asking, output: Path) -> list[BenchmarkScore]:
    """Ask every task that `output` does not hold yet, and write each down when it is done.

    Several processes (`accelerate launch`) share the documents of a task out; the first writes.

    Returns:
        The scores of this system: each task's, then each group's.

    Raises:
        StateError: `output` holds one of these tasks by a system of this name, asked in another way.
        InputError: a task that runs code, or that a text model cannot answer.
    """
    there = read_benchmarks(output) if output.exists() else []
    there = [score for score in there if not (score.system == system.name and score.members)]  # groups are counted anew
    names = tuple(benchmarks.tasks)
    asked = {name: _asked(system, benchmarks.tasks[name], asking) for name in names}
    done = {score.task: score for score in there if score.system == system.name}
    for name in names:
        if name in done:
            check_same_way(output, done[name], asked[name])
    model, state = _Model(system, asking), PartialState()
    for place, name in enumerate(names, start=1):
        if name in done:
            say(f"[{place}/{len(names)}] {name}: asked before")
            continue
        score = _ask(model, benchmarks, asked[name], asking)
        if score is None:  # not the first process
            continue
        done[name] = score
        there.append(score)
        write_benchmarks(output, there)
        say(f"[{place}/{len(names)}] {name}: {_said(score)}")
    state.wait_for_everyone()
    if not state.is_main_process:
        return []
    groups = [_group(benchmarks.groups[name], done, next(iter(asked.values()))) for name in benchmarks.groups]
    groups = [group for group in groups if group.scores]
    write_benchmarks(output, [*there, *groups])
    return [*(done[name] for name in names), *groups]


class _Model(HFLM):  # type: ignore[misc, unused-ignore]
    """A loaded system as the harness takes it.

    Prompt and answer are turned into tokens apart, as in training. lm-eval 0.4.13 moves white space that ends a prompt, such
    as the line break after `### 응답:`, into the answer, where it may become another token.
    """

    def __init__(self, system: System, asking: Asking) -> None:
        self._apart = not asking.raw
        thinking = getattr(system.encoder, "options", {}).get("enable_thinking")
        with _quiet():
            super().__init__(
                pretrained=system.network,
                tokenizer=system.tokenizer,
                backend="causal",
                batch_size=asking.batch_size,
                enable_thinking=thinking,
                think_end_token=THINK_END if thinking else None,
            )
        state = PartialState()
        if state.num_processes > 1:  # lm-eval 0.4.13 sets this up for models that it loads itself only
            self.accelerator = Accelerator()
            self._rank, self._world_size = state.process_index, state.num_processes

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not self._apart:
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair
        return self.tok_encode(context), plain_ids([continuation], self.tokenizer)[0]


def _asked(system: System, task: Any, asking: Asking) -> BenchmarkScore:
    """What a task's score will say of how it came about."""
    own = task.get_config("num_fewshot")
    shots = own if asking.shots is None or own == 0 else asking.shots  # a task that takes none is never given any
    settings = {key: value for key, value in task.dump_config().items() if key not in ("metadata", "num_fewshot")}
    return BenchmarkScore(
        system=system.name,
        model=system.model,
        adapter=system.adapter,
        weights=system.weights,
        prompt="none" if asking.raw else system.encoder.name,
        prompt_sha256="" if asking.raw else system.encoder.sha256,
        task=task.task_name,
        version=str(task.VERSION),
        task_sha256=text_sha256(canonical_json(_plain(settings))),
        shots=shots or 0,
        limit=asking.limit,
        documents=0,
        harness=HARNESS,
    )


def _ask(model: _Model, benchmarks: Benchmarks, asked: BenchmarkScore, asking: Asking) -> BenchmarkScore | None:
    """One task, with the seeds of the harness's own command; its `simple_evaluate` also asks git and the whole machine."""
    task = benchmarks.tasks[asked.task]
    task.set_config(key="num_fewshot", value=asked.shots)
    task.set_fewshot_seed(seed=SEED)
    random.seed(0)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    try:
        with _quiet():
            found = evaluate(
                model,
                {"tasks": {asked.task: task}},
                limit=asking.limit,
                apply_chat_template=not asking.raw,
                fewshot_as_multiturn=not asking.raw,
                log_samples=True,
            )
    except ValueError as error:
        if "unsafe" in str(error) or "multimodal" in str(error):
            raise InputError(f"The task {asked.task} is not asked: {_line(error)}") from error
        raise
    if found is None:
        return None
    samples = {sample["doc_id"]: sample["doc_hash"] for sample in found["samples"][task.task_name]}
    return asked.model_copy(
        update={
            "documents": len(samples),
            "documents_sha256": content_id([samples[place] for place in sorted(samples)]),
            "scores": _scores(found["results"][task.task_name]),
        }
    )


def _scores(metrics: Mapping[str, Any]) -> tuple[Score, ...]:
    """The metrics that the harness names `metric,filter`, with their standard errors."""
    scores = []
    for key, value in metrics.items():
        metric, _, kind = key.partition(",")
        if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = metrics.get(f"{metric}_stderr,{kind}")
        name = metric if kind == "none" else f"{metric} ({kind})"
        stderr = float(error) if isinstance(error, int | float) else None
        scores.append(Score(metric=name, value=float(value), stderr=stderr))
    return tuple(scores)


def _group(group: Any, done: Mapping[str, BenchmarkScore], asked: BenchmarkScore) -> BenchmarkScore:
    """A group's means, pooled by the harness's own rule from the scores of its tasks."""
    members = [task.task_name for task in group.get_all_tasks()]
    metrics: dict[str, dict[str, Any]] = {}
    for name in members:
        row = metrics.setdefault(name, {"sample_len": done[name].documents})
        for score in done[name].scores:
            metric, _, kind = score.metric.partition(" (")
            kind = kind.removesuffix(")") or "none"
            row[f"{metric},{kind}"] = score.value
            row[f"{metric}_stderr,{kind}"] = score.stderr
    with _quiet():
        pooled = group.aggregate(metrics) if group.has_aggregation else {}
    return asked.model_copy(
        update={
            "task": group.name,
            "members": tuple(members),
            "version": str(group.version),
            "task_sha256": content_id([done[name].task_sha256 for name in members]),
            "documents_sha256": content_id([done[name].documents_sha256 for name in members]),
            "shots": max(done[name].shots for name in members),
            "documents": sum(done[name].documents for name in members),
            "scores": _scores(pooled),
        }
    )


def _said(score: BenchmarkScore) -> str:
    shown = ", ".join(
        f"{item.metric} {item.value:.4f}" + ("" if item.stderr is None else f" ± {item.stderr:.4f}")
        for item in score.scores
    )
    return f"{shown} ({counted(score.documents, 'document')}, {counted(score.shots, 'shot')})"


def _refuse_code(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder - name one that holds task files (.yaml).")
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".yaml", ".yml", ".py") or not path.is_file():
            continue
        code = path.suffix == ".py" or any(mark in path.read_text("utf-8", "replace") for mark in _CODE)
        if code:
            raise InputError(
                f"'{path}' runs code, which kollm does not do for tasks from a folder - say it in Jinja "
                "(doc_to_text, doc_to_target, doc_to_choice), or add the task to lm-evaluation-harness."
            )


def _plain(value: Any) -> Any:
    """Settings as JSON holds them; a function is its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """The harness's own talk is kept down: what matters is said by kollm, and bars are for terminals."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "lm_eval"]
    levels = {name: logging.getLogger(name).level for name in ("lm_eval", *names)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    bars = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    try:
        with bars:
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
