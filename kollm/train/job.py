"""One training job from recipe and dataset to an adapter folder: checks first, weights second, the marker last."""

from __future__ import annotations

import logging
import os
import platform
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from accelerate import PartialState
from peft import PeftModel
from safetensors import safe_open
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import SFTConfig

from kollm.core.errors import InputError, StateError
from kollm.core.files import ensure_folder, file_sha256, full_disk, read_object, require_file, write_atomic, write_json
from kollm.core.lock import folder_lock
from kollm.core.ownership import list_files, write_sealed
from kollm.core.progress import say
from kollm.core.reading import as_object
from kollm.core.records import Record
from kollm.core.results import read_training_file
from kollm.core.version import __version__
from kollm.dataset.folder import dataset_fingerprint, read_manifest
from kollm.recipe.bases import BaseFacts, facts_from_config, written_out
from kollm.recipe.prompt import QUESTION
from kollm.recipe.schema import TRAINED_KEYS, Recipe
from kollm.recipe.tokens import PromptEncoder
from kollm.services.adapter_base import written_base
from kollm.services.local_model import LocalModel, find_whole_model, load_adapter, load_config
from kollm.services.repository import locate
from kollm.train.adapters import adapter_of, find_start, finish_adapter, peft_config
from kollm.train.attention import implementation
from kollm.train.check import base_location, check_length, check_recipe
from kollm.train.checkpoints import (
    CHECKPOINTS,
    FINAL,
    IDENTITY,
    MARKER,
    RECIPE,
    check_output,
    last_checkpoint,
    remove_checkpoints,
    saving,
)
from kollm.train.divergence import kl_to_reference
from kollm.train.evaluation import Evaluations
from kollm.train.forecast import Forecast, promise
from kollm.train.gpus import gpu_named
from kollm.train.material import material
from kollm.train.model import add_tokens, load_base_tokenizer, load_model
from kollm.train.outbox import Outbox
from kollm.train.plan import checkpointing, flop_per_token
from kollm.train.precision import Watchdog, check_precision
from kollm.train.preference import PreferenceTrainer, Reference
from kollm.train.prompts import make_encoder, prove
from kollm.train.sft import (
    StepTrainer,
    TrainingRows,
    compile_layers,
    layout,
    refused,
    throughput,
    train,
    trainer_config,
)
from kollm.train.shapes import count
from kollm.train.tracker import Tracker
from kollm.train.trackers import Trackers

WITHOUT_EFFECT = (
    "per_device_train_batch_size",
    "save_steps",
    "logging_steps",
    "save_strategy",
    "save_total_limit",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "ddp_timeout",
    "report_to",
    "run_name",
)
"""Trainer keys that may change between a checkpoint and its resumption: the steps stay the same."""
_BEFORE = {"method": "sft", "learn_tool_calls": False}
"""What trainings of earlier versions do not say, since there was nothing else."""
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "tokenizers")


@dataclass(frozen=True, slots=True)
class Job:
    """One training.

    Attributes:
        recipe: what is trained how.
        dataset: folder or Hub id.
        output: folder for the adapter.
        base: the base's files.
        config: the base's config.
        encoder: makes tokens of rows, with the base's tokenizer.
        identity: what a checkpoint must agree with, see `_identity`.
        state: of this process among the training's.
        outbox: whether checkpoints are set aside to be published.
        start: the adapter that training starts from, and preferences are held to; None for a fresh one.
    """

    recipe: Recipe
    dataset: str
    output: Path
    base: LocalModel
    config: Any
    encoder: PromptEncoder
    identity: dict[str, Any]
    state: PartialState
    outbox: bool = False
    start: LocalModel | None = None


def train_recipe(
    recipe: Recipe,
    dataset: str,
    output: Path,
    *,
    base: Path | None = None,
    start: str | Path | None = None,
    outbox: bool = False,
) -> None:
    """Train, or say that it is done already.

    Args:
        recipe: what is trained how.
        dataset: folder or Hub id.
        output: folder for the adapter.
        base: folder of the base, if not the recipe's.
        start: adapter that training starts from, a folder or Hub id; preferences are held to it.
        outbox: whether checkpoints are set aside to be published.

    Raises:
        KollmError: input that cannot be trained on; said before any weight is loaded where that is possible.
    """
    # Without `cpu`, accelerate takes each process of a machine without a GPU for the only one.
    cpu = bool(recipe.trainer.get("use_cpu", not torch.cuda.is_available()))
    seconds = recipe.trainer.get("ddp_timeout")
    state = PartialState(cpu=cpu, **({"timeout": timedelta(seconds=seconds)} if seconds else {}))
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line for each matrix and step
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
    check_recipe(recipe)
    check_precision(recipe)
    _check_launch(state)
    check_output(output)
    state.wait_for_everyone()
    under = find_whole_model(base_location(recipe, base), recipe.base.revision)
    tokenizer = load_base_tokenizer(under)
    if recipe.base.new_tokens:
        add_tokens(tokenizer, Path(recipe.base.new_tokens))
    encoder = make_encoder(recipe.prompt, tokenizer, enable_thinking=recipe.enable_thinking)
    first = None if start is None else find_start(start, under, encoder)
    if first is not None:
        recipe = recipe.model_copy(update={"adapter": adapter_of(first, recipe.adapter)})
    recipe = _with_true_origins(recipe, dataset, base).model_copy(update={"prompt": encoder.name})
    identity = _identity(recipe, dataset, encoder.sha256, first)
    if _is_done(output, identity):
        say(f"train: {output} is trained already")
        return
    config = load_config(under)
    if (context := _context(config)) is not None:
        check_length(recipe, context)
    if implementation(recipe, config.model_type) == "eager" and recipe.attention == "auto" and state.is_main_process:
        say(f"train: attention is eager, the only one that transformers has for '{config.model_type}'")
    job = Job(recipe, dataset, output, under, config, encoder, identity, state, outbox, first)
    with folder_lock(ensure_folder(output)) if state.is_main_process else nullcontext(), full_disk(output):
        _train(job)


def _train(job: Job) -> None:
    output, state = job.output, job.state
    if state.is_main_process:
        ensure_folder(output / CHECKPOINTS)
        _begin(output, job.identity, job.recipe)
    state.wait_for_everyone()
    try:
        trainer, metrics, asked = _prepare(job)
    except torch.OutOfMemoryError as error:
        raise StateError(
            "The device's memory is full before the first step: the base's weights do not fit - `kollm plan` tells what does."
        ) from error
    if job.outbox:
        trainer.add_callback(Outbox(output, lambda folder: _about(job, trainer, folder), metrics))
    length = trainer.args.max_length
    forecast = Forecast(trainer.batches, promise(job.recipe, _facts(job.config), trainer.accelerator, length))
    trainer.add_callback(forecast)
    watched = bool(job.recipe.trainer.get("eval_steps"))
    evaluations = Evaluations(trainer, job.recipe, output, job.encoder.ends, asked) if watched else None
    metrics = {**train(trainer, output, evaluations), **metrics, "model": _work(trainer, job.config, job.recipe)}
    metrics |= {"forecast": forecast.said} if forecast.said else {}
    metrics["heldout"]["conversations"] = metrics.pop("heldout_conversations")
    if isinstance(trainer, PreferenceTrainer) and state.is_main_process:
        metrics["kl_to_reference"] = kl_to_reference(trainer, job.start, job.encoder.ends)
    state.wait_for_everyone()
    with saving(output / CHECKPOINTS / FINAL):
        trainer.save_model(str(output / CHECKPOINTS / FINAL))
    state.wait_for_everyone()
    if state.is_main_process:
        _finish(output, metrics, _about(job, trainer, output))


def _about(job: Job, trainer: StepTrainer, folder: Path) -> dict[str, Any]:
    """What training.json says of an adapter in a folder."""
    about = {**job.identity, **_prompt(job.encoder), **written_base(job.base, folder), **_machine(trainer)}
    return {**about, "prompt": about["recipe"]["prompt"]}


def _context(config: Any) -> int | None:
    """Tokens that a base has positions for; None where they are not limited."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    return context if isinstance(context, int) and context > 0 else None


def _check_launch(state: PartialState) -> None:
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and state.device.type == "cpu":
        raise InputError(
            "The accelerate config shares the weights (FSDP), and there is no GPU, where accelerate trains with DDP instead "
            "- use --config cpu or cpu_2proc."
        )


class _Prepared(NamedTuple):
    """The trainer, what is known of its data, and the held-out rows' questions by id, of those that are answered."""

    trainer: StepTrainer
    metrics: dict[str, Any]
    questions: dict[str, str]


def _prepare(job: Job) -> _Prepared:
    """Everything that training needs; the data is read and checked before the weights are loaded."""
    recipe, state = job.recipe, job.state
    config = trainer_config(recipe, job.output)
    if "max_length" not in recipe.trainer:
        config.max_length = min(config.max_length, _context(job.config) or config.max_length)
    encoder, tokenizer = job.encoder, job.encoder.tokenizer
    proof = prove(encoder)
    data = material(recipe, job.dataset, encoder, config.max_length)
    if state.is_main_process:
        for line in (proof.sentence(encoder.name), *data.lines):
            say(f"train: {line}")
    model = load_model(recipe, job.base, tokenizer, encoder.ends)
    if job.start is not None:
        model = load_adapter(model, job.start, trainable=True)
    try:
        callbacks = [Watchdog(), Tracker(job.output), Trackers(recipe, job.output)]
        rows = TrainingRows(data.examples, data.heldout, tokenizer)
        trainer = make_trainer(recipe, config, model, rows, state.num_processes, callbacks)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (ValueError, ImportError, RuntimeError) as error:  # a tracker that is not installed, say
        raise refused(recipe, error) from error
    if isinstance(trainer, PreferenceTrainer):
        trainer.add_callback(Reference(trainer, job.output))
    return _Prepared(trainer, data.metrics, data.questions)


def make_trainer(
    recipe: Recipe,
    config: SFTConfig,
    model: Any,
    rows: TrainingRows,
    processes: int,
    callbacks: Sequence[TrainerCallback] = (),
) -> StepTrainer:
    """The recipe's trainer for a base in memory, its adapter in place."""
    steps = layout(recipe, config, processes)
    fresh = None if isinstance(model, PeftModel) else peft_config(recipe, model)
    if recipe.method == "sft":
        trainer = StepTrainer(model, config, rows, steps, fresh, callbacks)
    else:
        trainer = PreferenceTrainer(recipe, model, config, rows, steps, fresh, callbacks)
    finish_adapter(trainer.model, recipe)
    if recipe.trainer.get("torch_compile"):
        compile_layers(trainer.model)
    return trainer


def _identity(recipe: Recipe, dataset: str, prompt_sha256: str, start: LocalModel | None = None) -> dict[str, Any]:
    """What a checkpoint or a finished adapter must agree with, key by key."""
    values = recipe.model_dump(mode="json")
    keys = {key: values[key] for key in TRAINED_KEYS}
    if recipe.base.new_tokens:
        keys["base"]["new_tokens"] = file_sha256(require_file(Path(recipe.base.new_tokens), "The file of new tokens"))
    keys["trainer"] = {key: value for key, value in keys["trainer"].items() if key not in WITHOUT_EFFECT}
    keys["data.holdout"] = [recipe.data.holdout, recipe.data.holdout_seed]
    if start is not None:
        keys["start"] = start.content()
    return {
        "recipe": keys,
        "recipe_fingerprint": _portable(recipe).fingerprint(),
        "prompt_sha256": prompt_sha256,
        "dataset": dataset_fingerprint(dataset),
    }


def _prompt(encoder: PromptEncoder) -> dict[str, Any]:
    """What a reader of the adapter needs to know of its prompt: an example, and where answers end."""
    ids = encoder.prompt(Record("example", "", QUESTION, "", ""))
    text = encoder.tokenizer.decode(ids, skip_special_tokens=False)
    return {"prompt_example": {"question": QUESTION, "text": text}, "ends": list(encoder.ends)}


def _portable(recipe: Recipe) -> Recipe:
    """The recipe with the name of the file of new tokens in place of its path, which means nothing elsewhere."""
    if recipe.base.new_tokens is None:
        return recipe
    base = recipe.base.model_copy(update={"new_tokens": Path(recipe.base.new_tokens).name})
    return recipe.model_copy(update={"base": base})


def _is_done(output: Path, identity: dict[str, Any]) -> bool:
    if not (output / MARKER).is_file():
        return False
    _compare(read_training_file(output / MARKER, whole=True), identity, output)
    return True


def _begin(output: Path, identity: dict[str, Any], recipe: Recipe) -> None:
    started = output / CHECKPOINTS / IDENTITY
    if last_checkpoint(output) is not None:
        _compare(read_object(started), identity, output)
    else:  # nothing to lose: what stopped an earlier start, in the data say, may be mended by another recipe
        write_json(started, identity)
    write_atomic(output / RECIPE, yaml.safe_dump(_portable(recipe).model_dump(mode="json"), allow_unicode=True))


def _with_true_origins(recipe: Recipe, dataset: str, base: Path | None) -> Recipe:
    """What the recipe says of its data and its base is not said of others that were given in their place."""
    if base is not None and not recipe.base.is_toy:
        recipe = recipe.without_origins("base.model", "base.revision")
    try:
        sources = {str(source["name"]) for source in read_manifest(locate(dataset, "dataset").folder)["sources"]}
    except (InputError, KeyError, TypeError):
        sources = set()
    return recipe if sources == {source.name for source in recipe.data.sources} else recipe.with_given_data()


def _compare(there: dict[str, Any], wanted: dict[str, Any], output: Path) -> None:
    before = as_object(there.get("recipe"), output)
    changed = [key for key, value in wanted["recipe"].items() if before.get(key, _BEFORE.get(key)) != value]
    changed += [key for key in ("start",) if key in before and key not in wanted["recipe"]]
    changed += [key for key in ("dataset", "prompt_sha256") if there.get(key) != wanted[key]]
    if changed:
        raise StateError(
            f"'{output}' holds a training with another {', '.join(changed)} - choose another -o, or remove that folder."
        )


def _facts(config: Any) -> BaseFacts:
    if written_out(config.model_type):
        return facts_from_config(config.name_or_path, config.to_dict())
    return count(config, config.name_or_path)


def _work(trainer: StepTrainer, config: Any, recipe: Recipe) -> dict[str, Any]:
    """Parameters, and the work of a token counted for frozen weights; with a known GPU, its share of the peak (MFU)."""
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    about: dict[str, Any] = {"trainable_parameters": trainable}
    facts = _facts(config)
    mean = sum(trainer.batches.lengths) / len(trainer.batches.lengths)
    flop = flop_per_token(facts, recipe.adapter, checkpointing(recipe), int(mean))
    about |= {"parameters": facts.parameters, "flop_per_token": flop}
    if torch.cuda.is_available():
        about["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        gpu = gpu_named(torch.cuda.get_device_name())
        speed = throughput(trainer)["tokens_per_second"] / trainer.accelerator.num_processes
        about["mfu"] = round(speed * flop / (gpu.tflops * 1e12), 4) if gpu else None
    return about


def _machine(trainer: StepTrainer) -> dict[str, Any]:
    accelerator = trainer.accelerator
    cuda = torch.cuda.is_available()
    return {
        "versions": {"kollm": __version__, **{name: version(name) for name in PACKAGES}},
        "hardware": {
            "device": torch.cuda.get_device_name() if cuda else platform.machine(),
            "processes": accelerator.num_processes,
            "distributed_type": str(accelerator.distributed_type.value),
            "wrapper": type(trainer.model_wrapped).__name__,
        },
    }


def _finish(output: Path, metrics: dict[str, Any], about: dict[str, Any]) -> None:
    made = output / CHECKPOINTS / FINAL
    _check_saved(made)
    for name in ("training_args.bin", "README.md"):  # a pickle, and a card that kollm renders itself
        (made / name).unlink(missing_ok=True)
    write_json(made / "metrics.json", metrics)
    files = {**list_files(made), RECIPE: file_sha256(output / RECIPE)}
    for path in made.iterdir():
        path.replace(output / path.name)
    write_sealed(output / MARKER, {**about, "files": files})
    remove_checkpoints(output)


def _check_saved(output: Path) -> None:
    """Weights that are sharded over processes have been known to be saved as empty tensors."""
    saved = list(output.glob("*.safetensors"))
    if not saved:
        raise StateError(f"What was trained was saved without its weights in '{output}' - try a ddp config.")
    for path in saved:
        with safe_open(path, "pt") as file:
            empty = [name for name in file.keys() if 0 in file.get_slice(name).get_shape()]  # noqa: SIM118
            if empty or not file.keys():
                raise StateError(
                    f"'{path}' was saved without its weights ({empty[:1] or 'no tensor'}) - try a ddp config."
                )
