"""Merging an adapter into its base in bf16, with a check that the merged model says what the adapter says."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kollm.core.errors import InputError, StateError
from kollm.core.files import read_object
from kollm.core.ownership import Replacement, foreign_files, list_files, own_files, require_own, write_sealed
from kollm.core.progress import say
from kollm.core.results import read_training_file
from kollm.recipe.load import load_recipe
from kollm.recipe.schema import Recipe
from kollm.services.adapter_base import find_adapter_base, written_base
from kollm.services.local_model import (
    LocalModel,
    adapter_config,
    find_model,
    load_adapter,
    load_network,
    load_tokenizer,
)
from kollm.services.weights import content_hash
from kollm.train.adapters import finish_adapter
from kollm.train.model import load_model

TOLERANCE = 0.05
"""Largest mean difference of log-probabilities, in nats: bf16 keeps 8 bits, and merging rounds each weight once more."""
PROMPTS = (
    "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n### 지시어:\n한국의 수도는?\n\n### 응답:\n",
    "대한민국의 가을은 하늘이 높고 맑다.",
    "print('hello')  # 3.14 * 2",
)
"""Texts whose next-token probabilities are compared."""
LIKELIEST = 10
"""How many tokens of each position are compared: what lies below is never chosen."""
TRAINING = "training.json"
COPIED = ("recipe.yaml", "metrics.json")


class Parity(NamedTuple):
    """How far the merged model is from the adapter on the same bf16 base.

    Attributes:
        mean: mean absolute difference of next-token log-probabilities, in nats.
        largest: the largest of them.
        effect: mean difference that the adapter itself makes to the base: what there is to lose.
        quantised: mean difference from the adapter on the quantised base that it was trained on; that is the
            quantisation's own error, which no merge mends. None where the base was not quantised.
    """

    mean: float
    largest: float
    effect: float
    quantised: float | None


def merge(adapter: str | Path, output: Path, *, base: str | None = None, tolerance: float = TOLERANCE) -> Parity:
    """Reload the base in bf16, merge the adapter, save, and compare what was saved with the adapter on that base.

    Args:
        adapter: folder or Hub id of an adapter of kollm's.
        output: new folder for the merged model; whole or absent, `training.json` is written last. The same merge in it is
            not made again.
        base: where the base is, if not where the adapter says.
        tolerance: largest mean difference, in nats.

    Raises:
        InputError: no adapter of kollm's, a kind that cannot be merged, no base, or a folder that is in use.
        StateError: the merged model differs by more than `tolerance`; nothing is kept then.
    """
    trained = find_model(adapter).complete()
    folder = trained.folder
    _check_mergeable(trained)
    recipe = load_recipe(folder / "recipe.yaml")
    if own_files(output) is None:
        require_own(output, None, "the merged model")
    under = find_adapter_base(trained, base)
    made_of = {**written_base(under, output), "adapter_content": content_hash(folder)}
    if (parity := _merged_before(output, made_of)) is not None and parity.mean <= tolerance:
        say(f"merge: {output} is merged already")
        return parity
    require_own(output, None, "the merged model")
    tokenizer = load_tokenizer(trained)
    trained_on = None
    if recipe.quantization != "none":
        trained_on = _log_probabilities(_adapted(recipe, under, trained, tokenizer), tokenizer)
    model = _adapted(_in_bf16(recipe), under, trained, tokenizer)
    before = _log_probabilities(model, tokenizer)
    with model.disable_adapter():
        untrained = _log_probabilities(model, tokenizer)
    with Replacement(output) as place:
        work = place.work
        model.merge_and_unload(safe_merge=True).save_pretrained(work)
        tokenizer.save_pretrained(work)
        del model
        gc.collect()  # two models of 12.8 B do not fit where one does
        saved = load_network(LocalModel(work, str(output)), torch.bfloat16)
        after = _log_probabilities(saved, tokenizer)
        parity = Parity(
            *_differences(before, after),
            effect=_differences(before, untrained)[0],
            quantised=_differences(trained_on, after)[0] if trained_on else None,
        )
        if not parity.mean <= tolerance:
            raise StateError(
                f"The merged model differs from the adapter by {parity.mean:.4f} nats a token, more than {tolerance} - "
                "nothing was saved; use the adapter as it is."
            )
        for name in COPIED:
            shutil.copyfile(folder / name, work / name)
        about = {**made_of, "merge": {**parity._asdict(), "tolerance": tolerance}}
        write_sealed(work / TRAINING, {**read_training_file(folder / TRAINING), **about, "files": list_files(work)})
        place.publish({})
    return parity


def _merged_before(output: Path, made_of: Mapping[str, Any]) -> Parity | None:
    """What the same merge found that is whole in the folder, say because a kill came after its end; None for no such."""
    listed = own_files(output)
    if listed is None or TRAINING not in listed or foreign_files(output, listed):
        return None
    about = read_object(output / TRAINING)
    if any(about.get(key) != value for key, value in made_of.items()) or "merge" not in about:
        return None
    return Parity(**{name: about["merge"][name] for name in Parity._fields})


def _check_mergeable(trained: LocalModel) -> None:
    """Refuse what is no whole adapter of kollm's, or none that can be merged.

    Raises:
        InputError: it is refused.
    """
    folder = trained.folder
    if not trained.is_adapter:
        raise InputError(
            f"'{folder}' is no adapter folder (no adapter_config.json) - name the folder that training made; a full "
            "fine-tuning is a whole model already."
        )
    for name in (TRAINING, *COPIED):
        if not (folder / name).is_file():
            raise InputError(
                f"'{folder}' has no {name}: its training was cut off or not kollm's - train it to the end."
            )
    if adapter_config(folder)["peft_type"] == "ADAPTION_PROMPT":
        raise InputError("Adaption prompts are no change of weights and cannot be merged - publish the adapter itself.")


def _in_bf16(recipe: Recipe) -> Recipe:
    base = recipe.base.model_copy(update={"dtype": "bfloat16"})
    return recipe.model_copy(update={"base": base, "quantization": "none", "attention": "auto", "trainer": {}})


def _adapted(recipe: Recipe, base: LocalModel, adapter: LocalModel, tokenizer: Any) -> Any:
    """The base as the recipe has it, with the adapter on it."""
    ends = read_training_file(adapter.folder / TRAINING).get("ends", ())
    model = load_model(recipe, base, tokenizer, ends)
    if recipe.quantization == "none" and torch.cuda.is_available():
        model = model.to("cuda")  # bitsandbytes has put a quantised one there
    adapted = load_adapter(model, adapter)
    finish_adapter(adapted, recipe)
    return adapted


@torch.no_grad()  # type: ignore[untyped-decorator]
def _log_probabilities(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    """Log-probabilities of each position's next token, shape (tokens, vocabulary), one tensor a prompt."""
    model.eval()
    if torch.cuda.is_available():
        model = model.to("cuda")
    result = []
    for ids in tokenizer(list(PROMPTS), add_special_tokens=False)["input_ids"]:
        ids = ids[: getattr(model.config, "max_position_embeddings", None)]
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
        result.append(logits[:, : len(tokenizer)].float().log_softmax(dim=-1).cpu())
    return result


def _differences(before: list[torch.Tensor], after: list[torch.Tensor]) -> tuple[float, float]:
    """Mean and largest absolute difference over the tokens that are likeliest before."""
    parts = []
    for old, new in zip(before, after, strict=True):
        likely = old.topk(min(LIKELIEST, old.shape[-1]), dim=-1).indices
        parts.append((old.gather(-1, likely) - new.gather(-1, likely)).abs().flatten())
    joined = torch.cat(parts)
    return float(joined.mean()), float(joined.max())
