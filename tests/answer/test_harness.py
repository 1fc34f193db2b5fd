"""Benchmarks through lm-evaluation-harness, for real, on task files of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

lm_eval = pytest.importorskip("lm_eval", reason="the extra 'bench' is not installed")

from lm_eval.models.huggingface import HFLM  # noqa: E402

from kollm.answer import harness  # noqa: E402
from kollm.answer.harness import Asking, find_tasks, load_tasks, run_benchmarks  # noqa: E402
from kollm.answer.local import System, load_system  # noqa: E402
from kollm.cli import main  # noqa: E402
from kollm.core.benchmarks import read_benchmarks  # noqa: E402
from kollm.core.errors import InputError, StateError  # noqa: E402
from kollm.core.records import Record  # noqa: E402
from kollm.recipe.tokens import plain_ids  # noqa: E402
from tests.answer.conftest import WORDS  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def system(base: Path) -> System:
    return load_system(str(base), name="base", prompt="kullm-2023")


def task_file(folder: Path, name: str, rows: int, **changes: object) -> str:
    documents = [
        {"question": f"{WORDS[n : n + 9]}?", "a": WORDS[n], "b": WORDS[n + 3], "answer": n % 2} for n in range(rows)
    ]
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data), "train": str(data)}},
        "test_split": "test",
        "fewshot_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\n정답:",
        "doc_to_choice": "{{[a, b]}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        "metadata": {"version": 2.0},
        **changes,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    return name


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    members = [task_file(folder, "ko_first", 9), task_file(folder, "ko_second", 4)]
    group = {
        "group": "ko_both",
        "task": members,
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        "metadata": {"version": 1.0},
    }
    (folder / "ko_both.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    task_file(folder, "ko_written", 3, output_type="generate_until", doc_to_target="{{a}}", doc_to_choice=None,
              generation_kwargs={"until": ["\n"], "max_gen_toks": 8}, metric_list=[{"metric": "exact_match"}])  # fmt: skip
    return folder


def test_scores_are_the_harness_own(system: System, include: Path, tmp_path: Path) -> None:
    manager = find_tasks(["ko_both", "ko_written"], include)
    loaded = load_tasks(manager, ["ko_both", "ko_written"])
    asking = Asking(shots=1, raw=True)
    scores = {score.task: score for score in run_benchmarks(system, loaded, asking, tmp_path / "b.jsonl")}
    expected = lm_eval.simple_evaluate(
        HFLM(pretrained=system.network, tokenizer=system.tokenizer, batch_size=16),
        tasks=["ko_both", "ko_written"],
        num_fewshot=1,
        task_manager=manager,
    )["results"]
    assert list(scores) == ["ko_first", "ko_second", "ko_written", "ko_both"]
    for name, score in scores.items():
        for item in score.scores:
            assert item.value == pytest.approx(expected[name][f"{item.metric},none"])
            assert item.stderr == pytest.approx(expected[name][f"{item.metric}_stderr,none"])
    both = scores["ko_both"]
    assert (both.members, both.documents, both.version) == (("ko_first", "ko_second"), 13, "1.0")
    assert [item.metric for item in scores["ko_first"].scores] == ["acc", "acc_norm"]
    assert 0 < both.scores[0].value < 1 and scores["ko_first"].shots == 1


def likelihood(system: System, record: Record, answer: str) -> float:
    """The answer's log-probability after the prompt of training, by the network itself."""
    prompt, ids = system.encoder.prompt(record), plain_ids([answer], system.tokenizer)[0]
    with torch.inference_mode():
        logits = system.network(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(ids)), ids].sum())


def test_the_question_comes_in_the_prompt_of_training(system: System, include: Path, tmp_path: Path) -> None:
    loaded = load_tasks(find_tasks(["ko_first"], include), ["ko_first"])
    (score,) = run_benchmarks(system, loaded, Asking(shots=0), tmp_path / "b.jsonl")
    right = 0
    for document in map(json.loads, (include / "ko_first.jsonl").read_text(encoding="utf-8").splitlines()):
        record = Record("q", "", f"{document['question']}\n정답:", "", "")
        chances = [likelihood(system, record, document[key]) for key in "ab"]
        right += chances.index(max(chances)) == document["answer"]
    assert score.scores[0].value == pytest.approx(right / 9) and score.prompt == "kullm-2023"


def test_solved_examples_are_earlier_turns(system: System, include: Path) -> None:
    loaded = load_tasks(find_tasks(["ko_first"], include), ["ko_first"])
    (task,) = loaded.tasks.values()
    model = harness._Model(system, Asking())
    task.set_config(key="num_fewshot", value=1)
    task.set_fewshot_seed(seed=1)
    task.build_all_requests(
        limit=1, apply_chat_template=True, fewshot_as_multiturn=True, chat_template=model.apply_chat_template
    )
    context, choice = task.instances[0].args
    (example,) = [
        row
        for row in task.fewshot_docs()
        if f"{row['question']}\n정답:" in context and row["question"] != f"{WORDS[:9]}?"
    ]
    turn = (f"{example['question']}\n정답:", example["ab"[example["answer"]]])
    asked = system.encoder.prompt(Record("q", "", f"{WORDS[:9]}?\n정답:", "", "", (turn,)))
    assert model._encode_pair(context, choice) == (asked, plain_ids([choice], system.tokenizer)[0])
    assert choice == WORDS[0]


def test_a_stopped_run_goes_on_with_the_next_task(
    system: System, include: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_tasks(find_tasks(["ko_both"], include), ["ko_both"])
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    run_benchmarks(system, loaded, Asking(), whole)
    asked: list[str] = []
    real = harness._ask

    def dies(model: Any, benchmarks: Any, score: Any, asking: Any) -> Any:
        asked.append(score.task)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(model, benchmarks, score, asking)

    monkeypatch.setattr(harness, "_ask", dies)
    with pytest.raises(KeyboardInterrupt):
        run_benchmarks(system, loaded, Asking(), stopped)
    run_benchmarks(system, loaded, Asking(), stopped)
    assert asked == ["ko_first", "ko_second", "ko_second"] and stopped.read_bytes() == whole.read_bytes()
    with pytest.raises(StateError, match=r"ko_first of 'base' with another limit \(None, now 2\)"):
        run_benchmarks(system, loaded, Asking(limit=2), stopped)


def test_the_command_and_a_base_without_a_template(
    base: Path, include: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "benchmarks.jsonl"
    arguments = ["bench", str(base), "--tasks", "ko_second, ko_written", "--include", str(include), "-o", str(output)]
    main([*arguments, "--dry-run"])
    assert "ko_second, ko_written" in capsys.readouterr().out and not output.exists()
    main([*arguments, "--limit", "2"])
    printed = capsys.readouterr()
    first, second = read_benchmarks(output)
    assert (first.prompt, first.documents, first.limit, second.scores[0].metric) == ("none", 2, 2, "exact_match")
    assert "no result" in printed.out and "ko_second" in printed.out and "[1/2] ko_second: acc" in printed.err


def test_what_is_refused(include: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task to ask"):
        find_tasks([])
    (tmp_path / "mine.yaml").write_text("task: mine\ndoc_to_text: !function utils.text\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine.yaml' runs code"):
        find_tasks(["mine"], tmp_path)
    with pytest.raises(InputError, match="overlap"):
        load_tasks(find_tasks(["ko_both", "ko_first"], include), ["ko_both", "ko_first"])
    (tmp_path / "b.jsonl").write_text('{"system": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"b.jsonl, row 1 is no score of a benchmark \(model: field required\)"):
        read_benchmarks(tmp_path / "b.jsonl")


@pytest.mark.nightly("tests/answer/test_harness.py::test_scores_are_the_harness_own")
def test_the_korean_benchmarks_are_known_by_their_names(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", str(base), "--tasks", "kmmlu,haerae,kobest,click,hrm8k,kmmul"])
    assert "has no task 'kmmul' - did you mean kmmlu" in capsys.readouterr().err
