"""The stages between the adapter and the answers of a run with preferences: samples, their verdicts, pairs, and training on them."""

from __future__ import annotations

from typing import Any

from kollm.answer.presets import Decoding
from kollm.core.counting import counted
from kollm.core.files import ensure_folder, file_sha256
from kollm.core.hashing import text_sha256
from kollm.core.records import Record
from kollm.core.results import read_metrics_file
from kollm.dataset.folder import dataset_fingerprint, read_records
from kollm.dataset.pairs.choosing import Limits
from kollm.dataset.pairs.given import SAMPLES
from kollm.dataset.pairs.make import make_pairs
from kollm.dataset.pairs.settings import PairSettings
from kollm.recipe.load import STEP_KEYS, preferring
from kollm.recipe.schema import PreferenceStep, Recipe
from kollm.run.answers import PREFERRED, answer, judge_file
from kollm.run.data import tasks_to_look_for
from kollm.run.stage import Run, StageResult
from kollm.run.training import Training, train_into
from kollm.sources.own import OwnOptions

RECIPE = "preferred.recipe.yaml"
"""The recipe that training on the pairs is launched with."""
PAIRS = "pairs"
_SAMPLE_KEYS = ("samples", "prompts", "preset", "max_new_tokens")
_PAIR_KEYS = ("axis", "margin", "agreement", "max_length_ratio", "balance_length", "take", "allow_cut")


def step_of(recipe: Recipe) -> PreferenceStep:
    """The recipe's section `preference`, of a run that has these stages."""
    assert recipe.preference is not None
    return recipe.preference


def samples_inputs(run: Run) -> dict[str, Any]:
    step = step_of(run.recipe)
    return {
        "preference": step.model_dump(mode="json", include=set(_SAMPLE_KEYS)),
        "generation.max_new_tokens": run.recipe.generation.max_new_tokens,
        "generation.batch_size": run.recipe.generation.batch_size,
        "adapter": run.results["adapter"].fingerprint,
    }


def draw_samples(run: Run) -> StageResult:
    """Several answers of the adapter to each training prompt."""
    step, output = step_of(run.recipe), run.folder / SAMPLES / "generations.jsonl"
    ensure_folder(output.parent)
    records = training_prompts(run)
    tokens = step.max_new_tokens or run.recipe.generation.max_new_tokens
    answer(run, "adapter", records, output, Decoding(step.preset, tokens, step.samples))
    return StageResult(
        location=output.relative_to(run.folder).as_posix(),
        summary=f"{counted(step.samples, 'answer')} to each of {counted(len(records), 'training prompt')}",
        fingerprint=file_sha256(output),
    )


def training_prompts(run: Run) -> list[Record]:
    """The rows that are answered: those that the adapter was trained on, or as many of them as the step takes, by their ids."""
    from kollm.train.data import split_heldout

    data, most = run.recipe.data, step_of(run.recipe).prompts
    records = split_heldout(
        read_records(str(run.location("dataset")), split="train"), data.holdout, data.holdout_seed
    ).train
    if most is None or most >= len(records):
        return records
    drawn = set(
        sorted((text_sha256(f"prompts {data.holdout_seed} {record.id}"), record.id) for record in records)[:most]
    )
    wanted = {id for _, id in drawn}
    return [record for record in records if record.id in wanted]


def sample_verdicts_inputs(run: Run) -> dict[str, Any]:
    judge = step_of(run.recipe).judge or run.recipe.judge
    return {"judge": judge.model_dump(mode="json"), "samples": run.results["samples"].fingerprint}


def judge_samples(run: Run) -> StageResult:
    judge = step_of(run.recipe).judge or run.recipe.judge
    return judge_file(run, run.folder / SAMPLES / "generations.jsonl", judge)


def pairs_inputs(run: Run) -> dict[str, Any]:
    return {
        "preference": step_of(run.recipe).model_dump(mode="json", include=set(_PAIR_KEYS)),
        "verdicts": run.results["sample_verdicts"].fingerprint,
        "evaluation": run.results["evaluation"].fingerprint,
    }


def pair_samples(run: Run) -> StageResult:
    """Chosen and rejected answers; a prompt that holds an evaluation task is an error."""
    step = step_of(run.recipe)
    licences = {record.id: record.licence for record in training_prompts(run)}
    settings = PairSettings(
        limits=Limits(step.margin, step.agreement, step.max_length_ratio, step.take, step.allow_cut),
        axis=step.axis,
        balance=step.balance_length,
        against=(*run.recipe.data.against, *tasks_to_look_for(run)),
        own=OwnOptions(name=PAIRS),
        licences=licences,
    )
    report = make_pairs(
        [run.folder / SAMPLES / name for name in ("generations.jsonl", "verdicts.jsonl")], run.folder / PAIRS, settings
    )
    pairs, left_out = sum(report.rows.values()), sum(report.left_out.values())
    return StageResult(
        location=PAIRS,
        summary=f"{counted(pairs, 'pair')}, {counted(left_out, 'prompt')} without one; {report.length.sentence()}",
        fingerprint=dataset_fingerprint(str(run.folder / PAIRS)),
        details={"pairs": pairs, "left_out": dict(report.left_out), "length": report.length.to_row()},
    )


def preferred_inputs(run: Run) -> dict[str, Any]:
    return {
        "preference": step_of(run.recipe).model_dump(mode="json", include=set(STEP_KEYS)),
        "adapter": run.results["adapter"].fingerprint,
        "pairs": run.results["pairs"].fingerprint,
    }


def train_preferred(run: Run) -> StageResult:
    """Train on the pairs, from the adapter and with it as the reference."""
    step, output = step_of(run.recipe), run.folder / PREFERRED
    pairs, start = str(run.folder / PAIRS), run.folder / "adapter"
    train_into(run, Training(preferring(run.recipe), run.folder / RECIPE, pairs, output, start))
    metrics = read_metrics_file(output / "metrics.json")
    divergence = metrics.get("kl_to_reference")
    told = f", KL to the reference {divergence:.3f}" if isinstance(divergence, int | float) else ""
    return StageResult(
        location=PREFERRED,
        summary=f"{step.method} from the adapter{told}",
        fingerprint=file_sha256(output / "training.json"),
        details={"heldout": metrics["heldout"]},
    )
