"""Merging an adapter into its base in bf16, with a check that the merged model says what the adapter says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from kollm.errors import InputError, StateError
from kollm.files import ensure_folder, read_json, write_json
from kollm.train import adaption_prompt
from kollm.train.model import align_special_tokens, missing_base

TOLERANCE = 0.05
"""Largest mean difference of log-probabilities, in nats: bf16 keeps 8 bits, and merging rounds each weight once more."""
PROMPTS = (
    "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n### 지시어:\n한국의 수도는?\n\n### 응답:\n",
    "대한민국의 가을은 하늘이 높고 맑다.",
    "print('hello')  # 3.14 * 2",
)
"""Texts whose next-token probabilities are compared."""


class Parity(NamedTuple):
    """Mean and largest absolute difference of next-token log-probabilities, in nats, over the likeliest ten tokens."""

    mean: float
    largest: float


def merge(adapter: Path, output: Path, *, base: str | None = None, tolerance: float = TOLERANCE) -> Parity:
    """Reload the base in bf16, merge the adapter, compare, and save the merged model in safetensors.

    The comparison is with the adapter on that same bf16 base. Where it was trained on a quantised base, the shift from
    that base to bf16 is part of neither; it is the quantisation's own error.

    Raises:
        InputError: no adapter of kollm's, or a base that cannot be loaded.
        StateError: the merged model differs by more than `tolerance`; nothing is saved then.
    """
    config = adapter / "adapter_config.json"
    if not config.is_file():
        raise InputError(
            f"'{adapter}' is no adapter folder (no adapter_config.json) - name the folder that training made."
        )
    settings = read_json(config)
    if settings["peft_type"] == "ADAPTION_PROMPT":
        raise InputError("Adaption prompts are no change of weights and cannot be merged - publish the adapter itself.")
    adaption_prompt.register()
    location = base or settings["base_model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            location, revision=settings.get("revision"), dtype=torch.bfloat16, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise InputError(missing_base(location, error)) from error
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    adapted = PeftModel.from_pretrained(model, adapter).eval()
    before = _log_probabilities(adapted, tokenizer)
    merged = adapted.merge_and_unload()
    parity = _compare(before, _log_probabilities(merged, tokenizer))
    if not parity.mean <= tolerance:
        raise StateError(
            f"The merged model differs from the adapter by {parity.mean:.4f} nats a token, more than {tolerance} - "
            "nothing was saved; use the adapter as it is."
        )
    ensure_folder(output)
    align_special_tokens(merged, tokenizer)
    merged.save_pretrained(output)
    tokenizer.save_pretrained(output)
    for name in ("metrics.json", "recipe.yaml"):  # from which the card of the merged model is made
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, output / name)
    about = read_json(adapter / "training.json") if (adapter / "training.json").is_file() else {}
    write_json(output / "training.json", {**about, "merge": {**parity._asdict(), "tolerance": tolerance}})
    return parity


@torch.no_grad()  # type: ignore[untyped-decorator]
def _log_probabilities(model: torch.nn.Module, tokenizer: object) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    texts = [torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]]) for text in PROMPTS]  # type: ignore[operator]
    return [model(input_ids=ids.to(device)).logits[0].float().log_softmax(dim=-1).cpu() for ids in texts]


def _compare(before: list[torch.Tensor], after: list[torch.Tensor]) -> Parity:
    differences = []
    for old, new in zip(before, after, strict=True):
        likely = old.topk(min(10, old.shape[-1]), dim=-1).indices
        differences.append((old.gather(-1, likely) - new.gather(-1, likely)).abs().flatten())
    joined = torch.cat(differences)
    return Parity(float(joined.mean()), float(joined.max()))
