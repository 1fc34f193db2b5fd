"""Small real folders to publish: a built dataset, a toy base with an adapter, as `kollm run demo` leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from kollm.dataset.folder import dataset_fingerprint
from kollm.dataset.pipeline import build_dataset
from kollm.dataset.settings import SourceInput
from kollm.recipe.load import load_recipe
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import ToyBase
from kollm.sources import sample_file

QUESTION = "건강을 지키는 세 가지 방법을 알려 주세요."


def make_dataset(folder: Path, limit: int = 12, sources: tuple[str, ...] = ("dolly", "sharegpt")) -> Path:
    build_dataset([SourceInput(name, "sample") for name in sources], output=folder, limit=limit)
    return folder


def make_dataset_with_rejects(folder: Path) -> Path:
    """All three sources; Dolly's first row comes twice, so that the second is rejected."""
    inputs = [SourceInput("gpt4_llm", "sample"), SourceInput("sharegpt", "sample")]
    files = []
    for language in ("en", "ko"):
        lines = sample_file("dolly", language).read_text(encoding="utf-8").splitlines()
        files.append(folder.parent / f"dolly.{language}.jsonl")
        files[-1].write_text("\n".join([*lines, lines[0]]), encoding="utf-8")
    build_dataset([*inputs, SourceInput("dolly", files[0], memory=files[1])], output=folder)
    return folder


def make_base(folder: Path) -> Path:
    from kollm.train.toy import make_base as make

    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=600, context=256, pretrain_steps=0)
    make("gpt_neox", spec, ["안녕하세요. 오늘은 날씨가 좋습니다. " * 20, QUESTION * 5], folder)
    return folder


def make_adapter(folder: Path, base: Path, dataset: Path) -> Path:
    """An adapter with random weights, and the files that training leaves beside it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, target_modules=["query_key_value"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    template = PromptTemplate.load("kullm-2023")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template.chat_template
    tokenizer.save_pretrained(folder)
    write_training(folder, str(base), dataset)
    return folder


def write_training(folder: Path, base: str, dataset: Path) -> None:
    recipe = load_recipe("demo")
    values = recipe.model_dump(mode="json")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    training: dict[str, Any] = {
        "dataset": dataset_fingerprint(dataset),
        "hardware": {"device": "x86_64", "distributed_type": "NO", "processes": 1, "wrapper": "PeftModelForCausalLM"},
        "location": base,
        "base_commit": None,
        "base_content": None,
        "prompt": "kullm-2023",
        "prompt_sha256": PromptTemplate.load("kullm-2023").sha256,
        "recipe": {key: values[key] for key in ("base", "prompt", "adapter", "trainer")},
        "recipe_fingerprint": recipe.fingerprint(),
        "versions": {"torch": "2.13.0", "peft": "0.21.2"},
    }
    metrics = {
        "history": [{"step": 5, "epoch": 1.0, "loss": 6.5}, {"step": 10, "epoch": 2.0, "loss": 6.0}],
        "heldout": {"rows": 3, "conversations": 3, "tokens": 200, "before": 6.6, "after": 6.1},
        "rows": {"train": 20, "heldout": 3},
        "tokens": {"total": 3000, "supervised": 1200},
        "shares": {
            "dolly": {"rows": 15, "tokens": 900, "supervised": 500},
            "sharegpt": {"rows": 5, "tokens": 2100, "supervised": 700},
        },
        "evaluations": [{"step": 5, "loss": 6.3, "tokens": 200}],
        "samples": [{"step": 5, "id": "dolly-1", "question": "수도는?", "response": "<b>서울|\n부산</b>"}],
        "seconds": 12.5,
    }
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
