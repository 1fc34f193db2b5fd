"""What can be spoiled: a file of a whole and sound world, and the command that reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kollm.core.resources import resource_folder
from kollm.sources import sample_file
from tests.fuzz import mutations as spoil
from tests.hub.folders import make_adapter, make_base, make_dataset
from tests.report.fabricate import make_work_folder


class Target(NamedTuple):
    """One border.

    Attributes:
        file: path in the world of what is spoiled.
        spoiled: makes its bytes.
        command: arguments of `kollm`; `WORLD` stands for the world's folder and `NEW` for a path where nothing is.
        heavy: loads models, so that fewer inputs are tried.
    """

    file: str
    spoiled: Callable[[random.Random], bytes]
    command: Sequence[str]
    heavy: bool = False


def make_world(folder: Path) -> None:
    """A dataset, a run's folder, a base with an adapter, and one of each file that users write."""
    make_dataset(folder / "dataset", limit=4)
    make_work_folder(folder / "run", tasks=4)
    make_base(folder / "base")
    make_adapter(folder / "adapter", folder / "base", folder / "dataset")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    for name, rows in _ROWS.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, value in _YAML.items():
        (folder / name).write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    (folder / "labels.csv").write_bytes(LABELS)
    (folder / "topics.txt").write_bytes(TOPICS)
    (folder / "prompt.jinja").write_bytes(JINJA)


def targets(world: Path) -> dict[str, Target]:
    """All targets by name."""
    build = ("--translator", "none", "--processes", "0", "--against", "none", "-o", "NEW")
    found: dict[str, Target] = {}
    for source in SOURCES:
        rows = _sample(source)
        for ending, make in (("jsonl", spoil.jsonl_file), ("json", spoil.json_file)):
            file = f"in.{ending}"
            found[f"source {source} {ending}"] = Target(
                file, _with(make, rows), ("data", "build", source, "--input", f"WORLD/{file}", *build)
            )
    for name, (file, commands) in _JSON.items():
        whole = _load(world / file)
        make = spoil.jsonl_file if file.endswith(".jsonl") else spoil.json_file
        for number, command in enumerate(commands):
            heavy = command[0] in ("generate", "merge", "preview") or "local" in command
            found[f"{name} {number}"] = Target(file, _with(make, whole), command, heavy)
    for name, (file, command) in _YAML_COMMANDS.items():
        whole = yaml.safe_load((world / file).read_text(encoding="utf-8"))
        found[name] = Target(file, _with(spoil.yaml_file, whole), command)
    for name, (file, command) in _BYTES.items():
        found[name] = Target(file, _with(spoil.raw, (world / file).read_bytes()), command, command[0] == "preview")
    for ending, make in (("jsonl", spoil.jsonl_file), ("json", spoil.json_file)):
        command = ("data", "leaks", f"WORLD/own.{ending}", "--against", "sample")
        found[f"own {ending}"] = Target(f"own.{ending}", _with(make, [*_OWN]), command)
    for name, rows in _FOREIGN.items():
        command = (
            "verdicts",
            "import",
            "WORLD/foreign.jsonl",
            "--form",
            name,
            "--system",
            "s",
            "--judge",
            "j",
            "-o",
            "NEW",
        )
        found[f"foreign {name}"] = Target("foreign.jsonl", _with(spoil.jsonl_file, rows), command)
    found["own csv"] = Target(
        "own.csv", _with(spoil.raw, OWN_TABLE), ("data", "leaks", "WORLD/own.csv", "--against", "sample")
    )
    card = (world / "dataset" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card[4:].partition("\n---\n")[0])
    found["card"] = Target("dataset/README.md", _card(front), ("push", "dataset", "WORLD/dataset", "me/x", "--dry-run"))
    return found


SOURCES = (
    "gpt4_llm", "dolly", "sharegpt", "alpaca", "self_instruct", "instruct_wild", "open_platypus", "kopen_platypus", "flan", "p3",
    "natural_instructions", "super_natural_instructions", "koalpaca_v1", "kullm_v2", "korquad", "kisti", "sharegpt_ko",
    "human_eval", "synthetic",
)  # fmt: skip
LABELS = b"id,system,overall_quality,naturalness\nt-0,adapter,4,2\nt-0,base,1,\nt-1,adapter,5,3\nt-1,base,2,1\n"
TOPICS = "한국의 가을\nPython lists\n".encode()
JINJA = (
    "{%- for m in messages -%}\n{%- if m['role'] == 'user' -%}### 질문:\n{{ m['content'] }}\n### 답:\n"
    "{% else %}{{ m['content'] ~ eos_token }}\n{%- endif -%}\n{%- endfor -%}\n"
).encode()
_FOREIGN: dict[str, list[dict[str, Any]]] = {
    "mt-bench": [{"question_id": 1, "model": "m", "judge": ["gpt-4", "single-v1"], "judgment": "Rating: [[7]]", "score": 7, "turn": 1}],
    "alpaca-eval": [
        {"instruction": "q", "output_1": "a", "output_2": "b", "generator_1": "x", "generator_2": "y", "annotator": "j", "preference": 1.5}
    ],
    "logickor": [{"id": 1, "category": "추론", "questions": ["q"], "outputs": ["a"], "query_single": {"judge_message": "m", "judge_score": 7}}],
    "komt": [{"question_id": 1, "model": "m", "text": "점수: 7", "score": 7}],
    "kullm3": [{"id": 1, "model": "m", "scores": {"fluency": 3}, "response": "a"}],
    "lm-eval": [{"doc_id": 0, "doc": {"query": "q"}, "target": "a", "resps": [["a"]], "filtered_resps": ["a"], "acc": 1.0}],
}  # fmt: skip
OWN_TABLE = '질문,답변\n"가을은, 어떤가요?","맑습니다.\n높고요."\n둘,2\n'.encode()
_OWN: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "질문"}, {"role": "assistant", "content": "답"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "질문"}]}, {"role": "assistant", "content": "답"}]},
    {"messages": [{"role": "user", "content": "둘"}, {"role": "assistant", "content": "2"}]},
)  # fmt: skip
_ROWS: dict[str, list[dict[str, Any]]] = {
    "seeds.jsonl": [
        {"id": f"s{n}", "instruction": f"일 {n}", "instances": [{"input": "", "output": "답"}], "is_classification": False}
        for n in range(3)
    ],
    "annotated.jsonl": [{"text": "좋은 영화", "label": "긍정", "choices": "긍정, 부정"}] * 2,
    "review.jsonl": [
        {"id": "dolly-0", "english_sha256": "sha256:0", "decision": "drop", "corrected": {}, "errors": [], "english": {}, "korean": {}}
    ],
    "ledger.jsonl": [
        {
            "key": "sha256:0", "request": {"kind": "judge", "engine": "openai", "base_url": "x", "model": "m", "options": {},
            "context": "", "text": "t", "attempt": 1, "sample": 0}, "sends": 1, "sent_characters": 1, "sent_cost": 0.0,
            "content": {"text": "x"}, "characters": 1, "cost": 0.0,
        }
    ],
    "pairs.jsonl": [],
}  # fmt: skip
_YAML: dict[str, Any] = {
    "recipe.yaml": {
        "extends": "demo", "name": "mine", "trainer": {"max_steps": 3, "learning_rate": 0.001}, "adapter": {"method": "lora", "r": 4},
        "data": {"sources": [{"name": "dolly", "input": "sample", "memory": "sample"}]}, "origins": {"adapter.r": "paper"},
    },
    "task.yaml": {"title": "분류", "phrasings": [{"instruction": "{text} 는?", "input": "", "output": "{label}"}]},
    "accelerate.yaml": {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "num_processes": 1, "num_machines": 1, "use_cpu": True,
        "fsdp_config": {"fsdp_version": 2},
    },
}  # fmt: skip
_JUDGE = (
    "judge",
    "WORLD/run/generations.jsonl",
    "--dry-run",
    "--base-url",
    "http://127.0.0.1:9",
    "--model",
    "m",
    "-o",
    "NEW",
)
_PUSH = (
    "push",
    "adapter",
    "WORLD/adapter",
    "me/x",
    "--dry-run",
    "--unjudged",
    "--base",
    "me/base",
    "--dataset",
    "WORLD/dataset",
)
_GENERATE = ("generate", "WORLD/adapter", "--dataset", "WORLD/dataset", "--limit", "1", "--preset", "greedy", "--max-new-tokens", "2", "--base", "WORLD/base", "-o", "NEW")  # fmt: skip
_GENERATE_BASE = ("generate", "WORLD/base", "--prompt", "kullm-2023", *_GENERATE[2:10], "-o", "NEW")
_LOCAL = (
    "judge",
    "WORLD/run/generations.jsonl",
    "--engine",
    "local",
    "--model",
    "WORLD/base",
    "--limit",
    "1",
    "-o",
    "NEW",
)
_LEAKS = ("data", "leaks", "WORLD/dataset", "--against", "sample")
_PUSH_DATASET = ("push", "dataset", "WORLD/dataset", "me/x", "--dry-run")
_REPORT = ("report", "WORLD/run", "-o", "NEW.html")
_SHOW = ("show", "dolly-1", "-o", "WORLD/run")
_RUN = ("run", "demo", "-o", "WORLD/run", "--dry-run")
_JSON: dict[str, tuple[str, tuple[Sequence[str], ...]]] = {
    "generations": ("run/generations.jsonl", (_JUDGE, _REPORT, _SHOW)),
    "verdicts": ("run/verdicts.jsonl", (("compare", "WORLD/run"), _REPORT, _SHOW)),
    "run": ("run/run.json", (_REPORT, _SHOW, _RUN, ("compare", "WORLD/run"))),
    "run manifest": ("run/dataset/manifest.json", (_REPORT,)),
    "run metrics": ("run/adapter/metrics.json", (_REPORT,)),
    "manifest": ("dataset/manifest.json", (_LEAKS, _PUSH_DATASET, ("data", "review", "WORLD/dataset", "-o", "NEW"))),
    "training": ("adapter/training.json", (_PUSH, _GENERATE)),
    "metrics": ("adapter/metrics.json", (_PUSH,)),
    "adapter config": ("adapter/adapter_config.json", (_PUSH, _GENERATE, ("merge", "WORLD/adapter", "-o", "NEW"))),
    "adapter tokenizer": ("adapter/tokenizer_config.json", (_PUSH, _GENERATE)),
    "config": ("base/config.json", (_GENERATE_BASE, _LOCAL)),
    "generation config": ("base/generation_config.json", (_GENERATE_BASE, _LOCAL)),
    "tokenizer": ("base/tokenizer.json", (_GENERATE_BASE, _LOCAL)),
    "tokenizer config": ("base/tokenizer_config.json", (_GENERATE_BASE, _LOCAL)),
    "seeds": ("seeds.jsonl", (("data", "synthesize", "self-instruct", "--seeds", "WORLD/seeds.jsonl", "--model", "m", "--base-url", "http://127.0.0.1:9", "--dry-run", "--count", "2"),)),
    "annotated": ("annotated.jsonl", (("data", "synthesize", "templates", "WORLD/annotated.jsonl", "--task", "classification", "--licence", "MIT", "--map", "text=text", "-o", "NEW"),)),
    "review": ("review.jsonl", (("data", "build", "dolly", "--input", "sample", "--memory", "sample", "--corrections", "WORLD/review.jsonl", "--limit", "3", "-o", "NEW"), ("data", "review", "WORLD/dataset", "-o", "WORLD/review.jsonl"))),
    "ledger": ("ledger.jsonl", (("ledger", "import", "--ledger", "NEW", "WORLD/ledger.jsonl"),)),
}  # fmt: skip
_YAML_COMMANDS: dict[str, tuple[str, Sequence[str]]] = {
    "recipe check": ("recipe.yaml", ("recipe", "check", "WORLD/recipe.yaml")),
    "recipe show": ("recipe.yaml", ("recipe", "show", "WORLD/recipe.yaml")),
    "recipe plan": ("recipe.yaml", ("plan", "WORLD/recipe.yaml")),
    "recipe run": ("recipe.yaml", ("run", "WORLD/recipe.yaml", "-o", "NEW", "--dry-run")),
    "adapter recipe": ("adapter/recipe.yaml", _PUSH),
    "task": ("task.yaml", ("data", "synthesize", "templates", "WORLD/annotated.jsonl", "--task", "WORLD/task.yaml", "--licence", "MIT", "-o", "NEW")),
    "rubric": ("rubric.yaml", (*_JUDGE, "--rubric", "WORLD/rubric.yaml")),
    "accelerate": ("accelerate.yaml", ("train", "demo", "--dataset", "WORLD/dataset", "-o", "NEW", "--dry-run", "--config", "WORLD/accelerate.yaml")),
}  # fmt: skip
_BYTES: dict[str, tuple[str, Sequence[str]]] = {
    "labels": ("labels.csv", ("compare", "--agreement", "WORLD/run/verdicts.jsonl", "WORLD/labels.csv")),
    "topics": ("topics.txt", ("data", "synthesize", "self-chat", "WORLD/topics.txt", "--model", "m", "--base-url", "http://127.0.0.1:9", "--dry-run")),
    "parquet": ("dataset/dolly/train-00000.parquet", _LEAKS),
    "parquet shown": ("dataset/dolly/train-00000.parquet", ("show", "dolly-1", "-o", "WORLD")),
    "parquet pushed": ("dataset/dolly/train-00000.parquet", _PUSH_DATASET),
    "parquet read": ("dataset/dolly/train-00000.parquet", ("data", "build", "dolly", "--input", "WORLD/dataset/dolly/train-00000.parquet", "--translator", "none", "--against", "none", "-o", "NEW")),
    "weights": ("adapter/adapter_model.safetensors", _PUSH),
    "prompt": ("prompt.jinja", ("preview", "demo", "--rows", "1", "--set", "prompt=WORLD/prompt.jinja")),
}  # fmt: skip


def write_rubric(world: Path) -> None:
    """A rubric of the user's own, from a shipped one."""
    rubric = yaml.safe_load((resource_folder("judge/rubrics") / "kullm2023.yaml").read_text(encoding="utf-8"))
    (world / "rubric.yaml").write_text(yaml.safe_dump(rubric, allow_unicode=True), encoding="utf-8")


def _sample(source: str) -> list[Any]:
    try:
        lines = sample_file(source, "en").read_text(encoding="utf-8").splitlines()[:3]
    except Exception:  # the sample has no rows of that source: rows of the forms that sources know
        return [*_FORMS]
    return [json.loads(line) for line in lines]


_FORMS: tuple[dict[str, Any], ...] = (
    {"instruction": "Say hi.", "input": "", "output": "Hi.", "id": 1, "data_source": "x"},
    {"inputs_pretokenized": "Say hi.", "targets_pretokenized": "Hi.", "inputs": "a", "targets": "b", "task_name": "t", "definition": "d"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "id": "c"},
    {"name": "t", "instruction": "Do.", "instances": [{"input": "", "output": "x"}], "is_classification": False},
    {"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "id": "1", "answers": [{"text": "c"}]}]}]}]},
)  # fmt: skip


def _load(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def _with(make: Callable[[random.Random, Any], bytes], whole: Any) -> Callable[[random.Random], bytes]:
    return lambda chance: make(chance, whole)


def _card(front: Any) -> Callable[[random.Random], bytes]:
    def make(chance: random.Random) -> bytes:
        return b"---\n" + spoil.yaml_file(chance, front) + b"\n---\n# Card\n"

    return make
