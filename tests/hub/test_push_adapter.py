"""Adapter and base against the loopback Hub: the lines of their cards run in a fresh process and give the same logits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from kollm.core.errors import InputError, KollmError, StateError
from kollm.core.files import write_json
from kollm.hub import push
from kollm.hub.lineage import find_dataset
from kollm.hub.preparation import Names
from kollm.recipe.prompt import PromptTemplate
from kollm.services.repository import pull
from tests.hub.conftest import Client
from tests.hub.folders import QUESTION, make_adapter, make_base, make_dataset
from tests.servers.hub import LoopbackHub

REPO = "maker/kollm-toy-lora"
UNJUDGED = Names(unjudged=True)

LOGITS = f"""
import json, torch
messages = [{{"role": "user", "content": "{QUESTION}", "input": "문맥"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
ids = prompt["input_ids"]
with torch.no_grad():
    print(json.dumps([tokenizer.decode(ids[0]), model.eval()(input_ids=ids).logits[0, -1].tolist()]))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder as `kollm run` leaves it: dataset, base and adapter side by side."""
    folder = tmp_path_factory.mktemp("work")
    make_dataset(folder / "dataset", limit=6)
    make_base(folder / "base")
    make_adapter(folder / "adapter", folder / "base", folder / "dataset")
    return folder


@pytest.fixture
def spoilable(work: Path, tmp_path: Path) -> Path:
    """A copy of the work folder without the weights' size mattering."""
    copy = tmp_path / "work"
    for path in work.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return copy


def local_logits(work: Path) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(work / "base"), work / "adapter").eval()
    text = PromptTemplate.load("kullm-2023").prompt(QUESTION, "문맥")
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return text, model(input_ids=ids).logits[0, -1].tolist()


def make_merged(folder: Path, work: Path) -> Path:
    """The adapter merged into its base, with the files of its training."""
    import shutil

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(work / "base"), work / "adapter")
    model.merge_and_unload().save_pretrained(folder)
    for path in (work / "adapter").iterdir():
        if not path.name.startswith("adapter_"):
            shutil.copy(path, folder / path.name)
    return folder


def code_block(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found.group(1)


def fetched(name: str, repository: str = REPO) -> str:
    return Path(HfApi().hf_hub_download(repository, name)).read_text(encoding="utf-8")


@pytest.mark.slow
def test_four_lines_give_the_same_logits_then_offline(
    hub: LoopbackHub, work: Path, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The snippets of the cards of adapter, base and merged model run in this process, then the adapter's offline in a new one."""
    base, adapter = push("adapter", work / "adapter", REPO, names=UNJUDGED)
    assert base.repository == f"{REPO}-base"
    push("dataset", work / "dataset", "maker/ko-toy")
    merged = Names(unjudged=True, dataset="maker/ko-toy", base=base.repository)
    push("model", make_merged(tmp_path / "merged", work), f"{REPO}-merged", names=merged)
    cards = "".join(code_block(fetched("README.md", name)) for name in (REPO, base.repository, f"{REPO}-merged"))
    text, logits = local_logits(work)
    exec(cards + adapter.snippet + LOGITS, {})  # noqa: S102 - the lines of our own cards
    here = capsys.readouterr().out
    offline = client(adapter.snippet + LOGITS, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "cache"))
    for printed in (here, offline):
        pulled_text, pulled_logits = json.loads(printed.splitlines()[-1])
        assert pulled_text == text, "the chat template on the Hub makes the prompt of training"
        assert pulled_logits == pytest.approx(logits, abs=1e-6)


def test_nothing_of_this_machine_is_published(hub: LoopbackHub, work: Path) -> None:
    base, adapter = push("adapter", work / "adapter", REPO, names=UNJUDGED)
    config = json.loads(fetched("adapter_config.json"))
    assert (config["base_model_name_or_path"], config["revision"]) == (f"{REPO}-base", base.commit)
    assert json.loads(fetched("training.json"))["location"] == f"{REPO}-base@{base.commit}"
    tokenizer = json.loads(fetched("tokenizer_config.json"))
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast", "transformers 4 knows no TokenizersBackend"
    assert "is_local" not in tokenizer
    for commit in hub.repository("models", REPO).commits.values():
        for name, blob in commit.files.items():
            assert str(work).encode() not in blob.content, name
    again = push("adapter", work / "adapter", REPO, names=UNJUDGED)
    assert [(item.commit, item.sent) for item in again] == [(base.commit, ()), (adapter.commit, ())]


def test_kollm_generate_by_name_records_commits(hub: LoopbackHub, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from kollm.answer.local import load_system

    base, adapter = push("adapter", work / "adapter", REPO, names=UNJUDGED)
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        system = load_system(f"{REPO}@v1")
        assert (system.adapter, system.model) == (f"{REPO}@{adapter.commit}", f"{base.repository}@{base.commit}")
        assert system.encoder.name == "kullm-2023"
    with pytest.raises(InputError, match="no revision 'v7'"):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        load_system(f"{REPO}@v7")


def report() -> dict[str, Any]:
    axis = {"mean": 1.5, "ci95": [1.25, 1.75], "bounds": [1.0, 2.0], "n": 24, "n_scored": 23}
    system = {"system": "adapter", "n": 24, "axes": {"overall_quality": axis}}
    answers = {"system": "adapter", "n": 24, "flags": {"truncated": {"n": 3}, "no_hangul": {"n": 1}}}
    published = {"system": "KULLM 5.8B", "scores": {"overall_quality": 3.028}, "origin": "KULLM paper, Table 1"}
    judging = {
        "rubric": "kullm2023",
        "rubric_sha256": "sha256:" + "0" * 64,
        "mode": "local",
        "model": "",
        "axes": [{"key": "overall_quality", "label": "전반적인 품질", "korean": "전반적인 품질", "low": 1, "high": 5}],
        "systems": [system],
        "published": [published],
    }
    return {"toy": True, "answers": [answers], "judgings": [judging]}


def test_the_card_says_what_the_files_say(hub: LoopbackHub, spoilable: Path) -> None:
    write_json(spoilable / "report.json", report())
    dataset = push("dataset", spoilable / "dataset", "maker/ko-toy")[-1]
    names = Names(dataset="maker/ko-toy@v1", evaluation="maker/ko-toy@v1")
    push("adapter", spoilable / "adapter", REPO, names=names)
    card = fetched("README.md")
    for figure in (
        "6.600 before, 6.100 after",
        "3,000, 1,200 of them",
        "1.500 [1.25, 1.75]",
        "3.028",
        "3 were cut off",
    ):
        assert figure in card
    assert "English data put into Korean by machine" in card
    assert "| `sharegpt` | 5 | 25.0% | 2,100 | 70.0% |" in card
    assert "| 수도는? | 5 | \\<b\\>서울\\| 부산\\</b\\> |" in card
    assert f"`maker/ko-toy@{dataset.commit}`" in card
    assert "| `adapter.r` | `16` | paper |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["base_model"], front["datasets"], front["license"]) == (
        f"{REPO}-base",
        ["maker/ko-toy"],
        "apache-2.0",
    )
    (entry,) = yaml.safe_load(fetched(".eval_results/kollm.yaml"))
    assert entry["dataset"] == {
        "id": "maker/ko-toy",
        "task_id": "kullm2023.overall_quality",
        "revision": dataset.commit,
    }
    assert entry["value"] == 1.5 and "1.250 to 1.750" in entry["notes"]
    image = Path(HfApi().hf_hub_download(REPO, "loss.png")).read_bytes()
    assert image.startswith(b"\x89PNG")


def test_a_merged_model(hub: LoopbackHub, work: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    push("dataset", work / "dataset", "maker/ko-toy")
    push("model", work / "base", "maker/toy-base")
    names = Names(unjudged=True, dataset="maker/ko-toy@v1", base="maker/toy-base")
    folder = make_merged(tmp_path / "merged", work)
    with pytest.raises(InputError, match=r"names no licence"):
        hub.repository("models", "maker/toy-base").head.files.pop("README.md")
        push("model", folder, "maker/merged", names=names)
    push("model", work / "base", "maker/toy-base")
    push("model", folder, "maker/merged", names=names)
    settings = json.loads((folder / "generation_config.json").read_text())
    write_json(folder / "generation_config.json", {**settings, "eos_token_id": 2})
    with pytest.raises(InputError, match="ends a text with token 2 and the tokenizer with 0"):
        push("model", folder, "maker/merged", names=names)

    front = yaml.safe_load(fetched("README.md", "maker/merged").split("---\n")[1])
    assert (front["base_model_relation"], front["license"]) == ("finetune", "other")
    pulled = pull("maker/merged", "model").folder
    text, logits = local_logits(work)
    ids = AutoTokenizer.from_pretrained(pulled)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(pulled).eval()(input_ids=ids).logits[0, -1].tolist()
    assert merged == pytest.approx(logits, abs=1e-4)


def without(name: str, *keys: str) -> Callable[[Path], None]:
    def spoil(work: Path) -> None:
        path = work / "adapter" / name
        values = inner = json.loads(path.read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = None
        path.write_text(json.dumps(values))

    return spoil


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing loss": (without("metrics.json", "heldout", "after"), "misses a figure .*None is no number"),
    "a missing time": (lambda w: _drop(w / "adapter/metrics.json", "seconds"), "misses a figure .*'seconds'"),
    "no history": (without("metrics.json", "history"), "'history' is None"),
    "training cut off": (lambda w: (w / "adapter/training.json").unlink(), "has no training.json"),
    "another template": (lambda w: (w / "adapter/chat_template.jinja").write_text("{{ x }}"), "is not the template"),
    "another dataset": (without("training.json", "dataset"), "'dataset' is None"),
    "no dataset": (lambda w: (w / "dataset").rename(w / "gone"), "is not at .* --dataset"),
    "no weights": (lambda w: (w / "adapter/adapter_model.safetensors").unlink(), "holds no weights"),
    "weights that are none": (
        lambda w: (w / "adapter/adapter_model.safetensors").write_bytes(b"x" * 99),
        "no safetensors",
    ),
    "a pickle": (lambda w: (w / "adapter/training_args.bin").write_bytes(b"x"), "pickled code"),
    "code": (lambda w: (w / "adapter/modeling.py").write_bytes(b"x"), "no file of a adapter|no file of an adapter"),
    "an unknown base": (lambda w: (w / "base").rename(w / "gone"), "is gone - name one"),
}


def _drop(path: Path, key: str) -> None:
    values = json.loads(path.read_text())
    del values[key]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_folder_is_one_sentence_and_nothing_is_pushed(name: str, hub: LoopbackHub, spoilable: Path) -> None:
    training = spoilable / "adapter" / "training.json"
    values = json.loads(training.read_text())
    training.write_text(json.dumps({**values, "location": str(spoilable / "base")}))
    spoil, sentence = SPOILED[name]
    spoil(spoilable)
    with pytest.raises(KollmError, match=sentence) as caught:
        push("adapter", spoilable / "adapter", REPO, names=UNJUDGED)
    assert "\n" not in str(caught.value)
    assert not hub.repositories


def test_a_dataset_made_of_ones_own_rows_is_found_beside_the_adapter(hub: LoopbackHub, spoilable: Path) -> None:
    """`kollm train --dataset FILE -o OUT` puts it there; others beside it are told apart by their content."""
    own = spoilable / "kollm-datasets"
    (own / "a-other").mkdir(parents=True)
    (own / "a-other" / "manifest.json").write_text("{}")
    (spoilable / "dataset").rename(own / "own-0123456789ab")
    training = json.loads((spoilable / "adapter" / "training.json").read_text())
    assert find_dataset(spoilable / "adapter", training, None) == (None, own / "own-0123456789ab")


def test_scores_are_asked_for(hub: LoopbackHub, work: Path) -> None:
    with pytest.raises(InputError, match=r"There are no scores .* --unjudged"):
        push("adapter", work / "adapter", REPO)


def test_a_base_that_is_only_here_and_no_toy(hub: LoopbackHub, spoilable: Path) -> None:
    (spoilable / "base" / "toy.json").unlink()
    training = spoilable / "adapter" / "training.json"
    training.write_text(json.dumps({**json.loads(training.read_text()), "location": str(spoilable / "base")}))
    with pytest.raises(InputError, match=r"which nobody else has .* --base"):
        push("adapter", spoilable / "adapter", REPO, names=UNJUDGED)


def test_a_base_on_the_hub_is_named_and_not_copied(hub: LoopbackHub, spoilable: Path) -> None:
    base = push("model", spoilable / "base", "maker/some-base")[-1]
    training = spoilable / "adapter" / "training.json"
    values = json.loads(training.read_text())
    values["recipe"]["base"] |= {"model": "maker/some-base", "revision": base.commit}
    training.write_text(json.dumps({**values, "location": "maker/some-base"}))
    recipe = yaml.safe_load((spoilable / "adapter" / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["base"] = {"model": "maker/what-the-recipe-says"}  # --base named another in its place
    recipe["origins"] = {}
    (spoilable / "adapter" / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    published = push("adapter", spoilable / "adapter", REPO, names=UNJUDGED)
    assert [item.repository for item in published] == [REPO]
    for name in ("README.md", "recipe.yaml"):
        assert "maker/some-base" in fetched(name) and "what-the-recipe-says" not in fetched(name)
    config = json.loads(fetched("adapter_config.json"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("maker/some-base", base.commit)
    assert "dataset: apache-2.0; base: other" in fetched("README.md")


def test_the_wrong_dataset_is_not_put_in_the_card(hub: LoopbackHub, work: Path, tmp_path: Path) -> None:
    push("dataset", make_dataset(tmp_path / "other", limit=3), "maker/other")
    with pytest.raises(StateError, match="trained on another dataset than 'maker/other'"):
        push("adapter", work / "adapter", REPO, names=Names(dataset="maker/other", unjudged=True))
    assert ("models", REPO) not in hub.repositories


def test_the_card_of_a_preference_adapter_tells_method_settings_and_held_out_figures(
    hub: LoopbackHub, spoilable: Path
) -> None:
    folder = spoilable / "adapter"
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe |= {"method": "simpo", "trainer": {**recipe["trainer"], "simpo_gamma": 1.5, "packing": False}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["heldout"] |= {"accuracy": {"before": 0.5, "after": 0.75}, "margin": {"before": 0.0, "after": 1.25}}
    metrics["heldout"]["reward_accuracy"], metrics["kl_to_reference"] = {"before": 0.5, "after": 0.625}, 0.0625
    write_json(folder / "metrics.json", metrics)
    push("adapter", folder, REPO, names=UNJUDGED)
    card = fetched("README.md")
    assert "| method | simple preference optimization (arXiv 2405.14734), beta 2.0, simpo_gamma 1.5 |" in card
    accuracy, margin = (
        next(line for line in card.splitlines() if f"held-out {name}" in line) for name in ("accuracy", "margin")
    )
    assert "0.5" in accuracy and "0.75" in accuracy and "of the 3 pairs" in accuracy
    assert "1.25" in margin
    rewarded = next(line for line in card.splitlines() if "held-out reward accuracy" in line)
    assert "0.5" in rewarded and "0.625" in rewarded
    assert "| KL to the reference | 0.062 nats a token of its own answers" in card
    assert "prefer the better of two Korean answers, by simple preference optimization," in card
    assert "| pairs | " in card and "| rows | " not in card
