"""The way through the Hub and back, then the line cut at random moments, against a Hub on loopback:

    python -m benchmarks.hub_cut WORK [--cuts 20] [--seed 6]

WORK is a finished work folder, e.g. of `kollm run demo -o WORK`. Its dataset, adapter (with its toy base) and the metric are pushed;
a fresh process with an empty cache runs the four lines and must get the same rows, logits and scores. Then an older version of
each is pushed as v1 and this one over it as v2, twenty times, the line dying each time at another byte of the three pushes:
readers must have v1 whole and either the old or the new main, and the same pushes, run again, must complete v2.
huggingface_hub's waits between retries are skipped; everything else is the unmodified client.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers.hub import LoopbackHub

DATASET, ADAPTER, METRIC = "maker/ko-demo", "maker/kollm-demo", "maker/kollm_judge"
REPOSITORIES = (("datasets", DATASET), ("models", f"{ADAPTER}-base"), ("models", ADAPTER), ("spaces", METRIC))

FOUR_LINES = """
import json, sys
import torch
from datasets import load_dataset
import evaluate
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

generations = json.loads(sys.stdin.read())
rows = load_dataset("{dataset}", revision="v1", split="train")
tokenizer = AutoTokenizer.from_pretrained("{adapter}")
model = AutoPeftModelForCausalLM.from_pretrained("{adapter}").eval()
judge = evaluate.load("{metric}", "{rubric}", engine="local", model="{adapter}-base")

messages = [{{"role": "user", "content": generations[0]["instruction"], "input": generations[0]["input"]}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
with torch.no_grad():
    logits = model(input_ids=ids).logits[0, -1].tolist()
scores = judge.compute(
    predictions=[row["response"] for row in generations],
    instructions=[row["instruction"] for row in generations],
    inputs=[row["input"] for row in generations],
)
print(json.dumps({{"ids": list(rows["id"]), "outputs": list(rows["output"]), "prompt": tokenizer.decode(ids[0]), "logits": logits,
                  "scores": {{axis: scores[axis] for axis in {axes}}}}}))
"""


class Version(NamedTuple):
    """One version of the three things that are pushed."""

    dataset: Path
    adapter: Path
    metric: Path
    unjudged: bool


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="finished work folder")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args(arguments)
    with LoopbackHub() as hub, tempfile.TemporaryDirectory() as scratch:
        hub.add_account("hf_writer", "maker")
        home = Path(scratch) / "writer"
        os.environ.update(hub.environment(home, "hf_writer"))  # read when the clients are imported, below
        good = round_trip(hub, options.work, Path(scratch))
        good &= cuts(hub, options, Path(scratch))
    print("\nEverything as it should be." if good else "\nNOT as it should be, see above.")
    return 0 if good else 1


def metric_folder() -> Path:
    import kollm

    return Path(kollm.metric_path())


def push_all(version: Version) -> None:
    from kollm.hub import push
    from kollm.hub.preparation import Names

    push("dataset", version.dataset, DATASET)
    push("adapter", version.adapter, ADAPTER, names=Names(unjudged=version.unjudged))
    push("metric", version.metric, METRIC)


def round_trip(hub: LoopbackHub, work: Path, scratch: Path) -> bool:
    """Push, then run the four lines in a fresh process, and compare."""
    version = Version(work / "dataset", work / "adapter", metric_folder(), unjudged=False)
    started = time.monotonic()
    push_all(version)
    pushed = time.monotonic() - started
    verdicts = [json.loads(line) for line in (work / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    verdicts = [verdict for verdict in verdicts if verdict["system"] == "adapter"]
    generations = [json.loads(line) for line in (work / "generations.jsonl").read_text(encoding="utf-8").splitlines()]
    generations = [row for row in generations if row["system"] == "adapter"]
    axes = list(verdicts[0]["scores"])
    code = FOUR_LINES.format(dataset=DATASET, adapter=ADAPTER, metric=METRIC, rubric=verdicts[0]["rubric"], axes=axes)
    started = time.monotonic()
    found = json.loads(fresh_process(code, hub, scratch / "reader", json.dumps(generations)))
    ran = time.monotonic() - started
    rows, logits, prompt = local_truth(work, generations[0])
    means = {axis: sum(verdict["scores"][axis] for verdict in verdicts) / len(verdicts) for axis in axes}
    checks = {
        f"rows: {len(rows)}, same ids and outputs": rows == list(zip(found["ids"], found["outputs"], strict=True)),
        "prompt: the same text": prompt == found["prompt"],
        "logits": max(abs(a - b) for a, b in zip(logits, found["logits"], strict=True)),
        f"scores: {len(axes)} axes over {len(generations)} answers": max(
            abs(means[a] - found["scores"][a]) for a in axes
        ),
    }
    print(
        f"Pushed 4 repositories in {pushed:.1f} s; the four lines took {ran:.1f} s in a fresh process with an empty cache.\n"
    )
    print("| what | local against pulled |\n|---|---|")
    for what, result in checks.items():
        print(f"| {what} | {result if isinstance(result, bool) else f'largest difference {result:.2g}'} |")
    return all(result is True or (result is not False and result < 1e-5) for result in checks.values())


def fresh_process(code: str, hub: LoopbackHub, home: Path, given: str) -> str:
    environment = {**os.environ, **hub.environment(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"The four lines failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1]


def local_truth(work: Path, generation: dict[str, Any]) -> tuple[list[tuple[str, str]], list[float], str]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kollm.dataset.folder import read_records
    from kollm.recipe.prompt import PromptTemplate

    prompt = PromptTemplate.load(json.loads((work / "adapter/training.json").read_text())["prompt"])
    text = prompt.prompt(generation["instruction"], generation["input"])
    tokenizer = AutoTokenizer.from_pretrained(work / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(work / "base"), work / "adapter").eval()
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0, -1].tolist()
    rows = [(record.id, record.output) for record in read_records(work / "dataset", split="train")]
    return rows, logits, text


def cuts(hub: LoopbackHub, options: argparse.Namespace, scratch: Path) -> bool:
    """v1 is there; v2 is pushed over it while the line dies."""
    import huggingface_hub.utils._http as http

    from kollm.core.errors import ServiceError

    http.time = NoWaiting()  # type: ignore[assignment]
    hub.repositories.clear()
    push_all(older(options.work, scratch / "older"))
    first = {place: repository.head.oid for place, repository in hub.repositories.items()}
    old = {place: read(place, first[place], scratch) for place in REPOSITORIES}
    newer = Version(options.work / "dataset", options.work / "adapter", metric_folder(), unjudged=False)
    before = hub.bytes_passed
    push_all(newer)
    length = hub.bytes_passed - before
    new = {place: read(place, "main", scratch) for place in REPOSITORIES}
    print(
        f"\nThe three pushes of v2 pass {length:,} bytes.\n\n| cut at byte | last request | readers then had | bytes of the second try | complete |"
    )
    print("|---:|---|---|---:|---|")
    chance, good = random.Random(options.seed), True
    for moment in sorted(chance.randrange(length) for _ in range(options.cuts)):
        for place, repository in hub.repositories.items():
            repository.rewind(first[place])
        hub.cut_after(moment)
        try:
            push_all(newer)
            raise SystemExit("The line was cut and the push did not notice.")
        except ServiceError:
            last = hub.requests[-1].split("?")[0][:60]
        hub.mend()
        seen = [name_of(read(place, "main", scratch), old[place], new[place]) for place in REPOSITORIES]
        kept = all(read(place, first[place], scratch) == old[place] for place in REPOSITORIES)
        before = hub.bytes_passed
        push_all(newer)
        again = hub.bytes_passed - before
        complete = all(read(place, "main", scratch) == new[place] for place in REPOSITORIES)
        good &= kept and complete and "HALF" not in seen
        print(
            f"| {moment:,} | {last} | {', '.join(seen)}{'' if kept else ', v1 LOST'} | {again:,} | {'yes' if complete else 'NO'} |"
        )
    return good


class NoWaiting:
    """Stands in for `time` where huggingface_hub waits between retries."""

    def sleep(self, seconds: float) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def older(work: Path, folder: Path) -> Version:
    """Another version of each: the evaluation set as dataset, other weights, a metric with one line more."""
    for part in ("adapter", "base", "dataset"):
        shutil.copytree(work / part, folder / part)
    from safetensors.torch import load_file, save_file

    weights = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    training = folder / "adapter" / "training.json"
    values = json.loads(training.read_text(encoding="utf-8"))
    training.write_text(json.dumps({**values, "location": str(folder / "base")}), encoding="utf-8")
    shutil.copytree(metric_folder(), folder / "kollm_judge", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "kollm_judge" / "kollm_judge.py").open("a", encoding="utf-8") as file:
        file.write("\n# An older version.\n")
    return Version(work / "evaluation", folder / "adapter", folder / "kollm_judge", unjudged=True)


def read(place: tuple[str, str], revision: str, scratch: Path) -> dict[str, bytes]:
    """What a reader with an empty cache downloads."""
    from huggingface_hub import HfApi

    kind, name = place
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        folder = Path(
            HfApi().snapshot_download(name, repo_type=kind[:-1], revision=revision, cache_dir=cache, max_workers=2)
        )
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def name_of(found: dict[str, bytes], old: dict[str, bytes], new: dict[str, bytes]) -> str:
    if old == new:
        return "same" if found == old else "HALF"
    return "old" if found == old else "new" if found == new else "HALF"


if __name__ == "__main__":
    sys.exit(main())
