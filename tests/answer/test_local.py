from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import kollm.answer.local as generate
from kollm.answer.file import read_generations
from kollm.answer.local import System, _cut_at_heading, _encode, generate_answers, load_system
from kollm.answer.presets import PRESETS, Decoding
from kollm.cli import main
from kollm.core.errors import InputError, StateError
from kollm.core.files import read_jsonl
from kollm.core.records import Record
from kollm.judge.local import LocalJudge
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import ToyBase
from kollm.recipe.tokens import TextEncoder
from kollm.train.toy import make_base
from tests.answer.conftest import WORDS


@pytest.fixture(scope="module")
def system(base: Path) -> System:
    return load_system(str(base), prompt="kullm-2023")


def tasks(count: int) -> list[Record]:
    return [
        Record(f"t-{n}", "human_eval", WORDS[: 5 + 7 * n], WORDS[:n] if n % 2 else "", "참고") for n in range(count)
    ]


def answers(
    records: Sequence[Record], system: System, path: Path, preset: str = "paper", **options: Any
) -> dict[str, str]:
    generate_answers(records, system, path, Decoding(preset, 12), **options)
    return {generation.id: generation.response for generation in read_generations(path)}


def test_the_paper_preset_is_the_papers() -> None:
    assert PRESETS["paper"] == {
        "num_beams": 4,
        "do_sample": False,
        "repetition_penalty": 1.4,
        "max_new_tokens": 400,
        "recorded": {"temperature": 0.1, "top_k": 40, "top_p": 0.75},
    }


@pytest.mark.parametrize("preset", ["paper", "beam-sample", "greedy"])
def test_a_bases_own_generation_settings_change_no_preset(
    preset: str, system: System, base: Path, tmp_path: Path
) -> None:
    own = tmp_path / "base"
    shutil.copytree(base, own)
    plain = answers(tasks(3), system, tmp_path / "plain.jsonl", preset=preset)
    said = {token for text in plain.values() for token in system.tokenizer.encode(text)}
    settings = {"no_repeat_ngram_size": 1, "suppress_tokens": sorted(said), "length_penalty": 9.0, "min_new_tokens": 12}
    (own / "generation_config.json").write_text(json.dumps({**settings, "renormalize_logits": True}))
    other = load_system(str(own), prompt="kullm-2023")
    assert answers(tasks(3), other, tmp_path / "own.jsonl", preset=preset) == plain


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_an_answer_does_not_depend_on_its_batch(system: System, tmp_path: Path, pad_is_eos: bool) -> None:
    import copy

    tokenizer = copy.deepcopy(system.tokenizer)
    if pad_is_eos:
        tokenizer.pad_token = tokenizer.eos_token
    own = dataclasses.replace(system, encoder=TextEncoder(PromptTemplate.load("kullm-2023"), tokenizer))
    alone = answers(tasks(7), own, tmp_path / "alone.jsonl", batch_size=1)
    together = answers(tasks(7), own, tmp_path / "together.jsonl", batch_size=7)
    assert together == alone
    assert len(set(alone.values())) > 1


def test_a_killed_run_goes_on_and_ends_in_the_same_file(system: System, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    answers(tasks(6), system, whole, batch_size=2)
    generate_answers(tasks(6)[:0] + tasks(6), system, killed, Decoding(max_new_tokens=12), batch_size=2)
    rows = killed.read_text(encoding="utf-8").splitlines(keepends=True)
    killed.unlink()
    part = killed.with_name(f"{generate._part_prefix(killed, system)}0")
    part.write_text("".join(rows[4:]) + rows[3][:20], encoding="utf-8")
    kept = generate_answers(tasks(6), system, killed, Decoding(max_new_tokens=12), batch_size=2)
    assert kept == 2
    assert killed.read_bytes() == whole.read_bytes()
    assert not part.exists()
    assert [row["id"] for row in read_jsonl(killed)] == [f"t-{n}" for n in range(6)]


def test_a_task_that_asks_anything_else_is_answered_anew(
    system: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, task = tmp_path / "g.jsonl", tasks(1)[0]
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    answers([task], system, path)
    changes: list[dict[str, Any]] = [{"system": "가"}, {"history": (("가", "나"),)}, {"tools": tools}]
    for change in changes:
        other = dataclasses.replace(task, **change)
        assert generate_answers([other], system, path, Decoding(max_new_tokens=12)) == 0
        assert generate_answers([other], system, path, Decoding(max_new_tokens=12)) == 1
        (row,) = read_generations(path)
        assert (row.system_message, row.history, row.tools) == (other.system, other.history, other.tools)
    said = "1 task is asked without their tool definitions, since the prompt has no place for them"
    assert capsys.readouterr().err.count(said) == 2


def test_processes_share_out_the_same_batches_when_one_is_slow(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [dataclasses.replace(task, tools='[{"type": "function", "function": {"name": "f"}}]') for task in tasks(8)]
    own, met, fast_waits = threading.local(), threading.Barrier(2), threading.Event()

    class State:
        """What accelerate's PartialState is in each of two processes."""

        num_processes = 2

        def __init__(self) -> None:
            self.process_index: int = own.index
            self.is_main_process = own.index == 0

        def wait_for_everyone(self) -> None:
            if self.process_index == 1:
                fast_waits.set()
            met.wait(timeout=60)

    def slow_to_read(*args: Any) -> Any:
        if own.index == 0:
            fast_waits.wait(timeout=60)
        return finished(*args)

    def process(index: int) -> None:
        own.index = index
        answers(given, system, tmp_path / "two.jsonl", batch_size=2)

    alone = answers(given, system, tmp_path / "one.jsonl", batch_size=2)
    finished = generate._finished
    monkeypatch.setattr(generate, "PartialState", State)
    monkeypatch.setattr(generate, "_finished", slow_to_read)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(process, index) for index in range(2)]:
            done.result()
    assert {g.id: g.response for g in read_generations(tmp_path / "two.jsonl")} == alone
    assert capsys.readouterr().err.count("8 tasks are asked without their tool definitions") == 2, "once a run"


def test_another_system_is_added_to_the_file(system: System, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    answers(tasks(2), system, path)
    answers(tasks(2), dataclasses.replace(system, name="again/한글 모델"), path)
    assert [(g.system, g.id) for g in read_generations(path)] == [
        ("base", "t-0"),
        ("base", "t-1"),
        ("again/한글 모델", "t-0"),
        ("again/한글 모델", "t-1"),
    ]


def test_fewer_tasks_lose_no_answer(system: System, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    answers(tasks(5), system, path)
    whole = path.read_bytes()
    answers(tasks(2), system, path)
    assert path.read_bytes() == whole
    other = [dataclasses.replace(task, id=f"other-{task.id}") for task in tasks(2)]
    answers(other, system, path)
    assert path.read_bytes().startswith(whole)
    assert [row["id"] for row in read_jsonl(path)][5:] == ["other-t-0", "other-t-1"]


def test_systems_of_like_names_have_parts_of_their_own(system: System, tmp_path: Path) -> None:
    names = {generate._part_prefix(tmp_path / "g.jsonl", dataclasses.replace(system, name=n)) for n in ("a b", "a-b")}
    assert len(names) == 2


def test_an_adapter_is_no_base_and_a_merged_model_has_its_name(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    config = LoraConfig(target_modules=["query_key_value"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(adapter)
    with pytest.raises(InputError, match="is an adapter itself - name the model under it"):
        load_system(str(adapter), base=str(adapter), prompt="kullm-2023")
    assert load_system(str(adapter), base=str(base), prompt="kullm-2023").name == "adapter"
    merged = shutil.copytree(base, tmp_path / "merged")
    (merged / "training.json").write_text('{"prompt": "kullm-2023"}', encoding="utf-8")
    assert load_system(str(merged)).name == "merged"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--api", "--preset", "greedy"], "--preset is the server's business"),
        (["--api", "--batch-size", "4"], "--batch-size is the server's business"),
        (["--max-cost", "5"], "--max-cost is for served models"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["generate", "model", "--dataset", "nowhere", *options])
    assert left.value.code == 1
    assert said in capsys.readouterr().err


def test_other_parameters_never_mix_with_earlier_answers(system: System, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    answers(tasks(2), system, path)
    with pytest.raises(StateError, match="another preset"):
        answers(tasks(2), system, path, preset="greedy")
    with pytest.raises(StateError, match="another weights"):
        answers(tasks(2), dataclasses.replace(system, weights="sha256:other"), path)


def test_a_changed_task_is_answered_anew(system: System, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    first = answers(tasks(2), system, path)
    changed = [tasks(2)[0], dataclasses.replace(tasks(2)[1], instruction="물은 무엇입니까?")]
    kept = generate_answers(changed, system, path, Decoding(max_new_tokens=12), batch_size=1)
    assert kept == 1
    assert [g.instruction for g in read_generations(path)][1] == "물은 무엇입니까?"
    assert next(read_generations(path)).response == first["t-0"]


def test_sampling_is_the_same_after_a_resume(system: System, tmp_path: Path) -> None:
    first = answers(tasks(4), system, tmp_path / "a.jsonl", preset="beam-sample", batch_size=2)
    assert answers(tasks(4), system, tmp_path / "b.jsonl", preset="beam-sample", batch_size=2) == first


def test_a_long_input_is_cut_and_the_cut_is_recorded(system: System, tmp_path: Path) -> None:
    long = dataclasses.replace(tasks(1)[0], input=WORDS * 30)
    answers([long], system, tmp_path / "g.jsonl")
    generation = next(read_generations(tmp_path / "g.jsonl"))
    assert 0 < generation.params["input_cut_characters"] < len(long.input)
    assert generation.input == long.input
    with pytest.raises(InputError, match="without its input"):
        answers([dataclasses.replace(long, instruction=WORDS * 30)], system, tmp_path / "h.jsonl")


def test_shots_stand_before_the_prompt(system: System, tmp_path: Path) -> None:
    shots = [Record("s-1", "dolly", "예시?", "", "예시 답")]
    (prompt,) = _encode(tasks(1), system, 12, shots)
    text = system.tokenizer.decode(prompt.tokens)
    template = PromptTemplate.load("kullm-2023")
    assert text == f"{template.prompt('예시?')}예시 답\n\n{template.prompt(tasks(1)[0].instruction)}"
    answers(tasks(2), system, tmp_path / "a.jsonl", shots=shots)
    assert next(read_generations(tmp_path / "a.jsonl")).params["shots"] == ["s-1"]


def test_a_model_is_asked_with_the_tokens_it_was_trained_on(system: System) -> None:
    from kollm.train.data import IGNORED, tokenise

    record = Record(
        "m",
        "x",
        "<|endoftext|>는 무엇입니까?",
        "입력",
        "답입니다.",
        history=(("안녕하세요?", "<|padding|> 반갑습니다."),),
    )
    (example,) = tokenise([record], system.encoder, max_length=400).examples
    (prompt,) = _encode([record], system, 12, ())
    learned = [token for token in example.labels.tolist()[len(prompt.tokens) :] if token != IGNORED]
    assert [*prompt.tokens, *learned] == example.input_ids.tolist()
    assert prompt.tokens.count(system.tokenizer.eos_token_id) == 1  # of the history's answer, and none from the text


def test_transformers_own_penalty_still_counts_padding() -> None:
    """Once this fails, `generate_answers` can leave the penalty to GenerationConfig."""
    from transformers import RepetitionPenaltyLogitsProcessor

    padded = torch.tensor([[0, 0, 5]])
    scores = torch.ones(1, 8)
    assert RepetitionPenaltyLogitsProcessor(2.0)(padded, scores.clone())[0, 0] == 0.5
    ours = RepetitionPenaltyLogitsProcessor(2.0, prompt_ignore_length=torch.tensor([2]))(padded, scores.clone())
    assert ours[0].tolist() == [1, 1, 1, 1, 1, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("text", "ended", "answer"),
    [
        ("답입니다.\n\n### 지시어:\n다음", False, ("답입니다.", "stop", "### 지시어:")),
        ("답입니다.\n### 명령어: 다음", False, ("답입니다.", "stop", "### 명령어:")),
        (" 답입니다. ", True, ("답입니다.", "stop", "")),
        ("끝나지 않은", False, ("끝나지 않은", "length", "")),
        ("### 요약\n세 시에 끝났습니다.", True, ("### 요약\n세 시에 끝났습니다.", "stop", "")),
        ("차례:\n\n### 준비물\n- 밀가루", True, ("차례:\n\n### 준비물\n- 밀가루", "stop", "")),
        ("`### 지시어:`는 제목입니다.", True, ("`### 지시어:`는 제목입니다.", "stop", "")),
    ],
)
def test_an_answer_ends_at_the_templates_own_heading(text: str, ended: bool, answer: tuple[str, str, str]) -> None:
    """Headings that answers use are theirs; a line that begins with the template's is the next prompt."""
    assert _cut_at_heading(text, PromptTemplate.load("kullm-2023").stop, ended) == answer


def test_bad_input_is_one_sentence(system: System, base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zero rows"):
        answers([], system, tmp_path / "g.jsonl")
    with pytest.raises(InputError, match="ids that repeat"):
        answers(tasks(1) * 2, system, tmp_path / "g.jsonl")
    with pytest.raises(InputError, match="no decoding preset 'fast'"):
        answers(tasks(1), system, tmp_path / "g.jsonl", preset="fast")
    with pytest.raises(InputError, match="which prompt template"):
        load_system(str(base))


def test_too_little_memory_is_one_sentence(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(system.engine, "_decode", full)
    with pytest.raises(InputError, match=r"does not hold 3 prompts of up to .* lower --batch-size"):
        answers(tasks(3), system, tmp_path / "g.jsonl")


def test_weights_that_cannot_be_read_are_one_sentence(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    spec = ToyBase(hidden_size=64, layers=2, heads=2, vocab_size=400, context=512, pretrain_steps=1, pretrain_block=32)
    make_base("gpt_neox", spec, [WORDS] * 20, other)
    adapter = tmp_path / "adapter"
    lora = LoraConfig(target_modules=["query_key_value"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(adapter)
    assert load_system(str(adapter), base=str(base), prompt="plain").name == "adapter"
    with pytest.raises(
        InputError, match=r"adapter' does not fit the model '.*other' \(.*size mismatch.* --base MODEL\.$"
    ):
        load_system(str(adapter), base=str(other), prompt="plain")
    llama = tmp_path / "llama"
    make_base("llama", spec, [WORDS] * 20, llama)
    with pytest.raises(InputError, match=r"does not fit .*query_key_value"):
        load_system(str(adapter), base=str(llama), prompt="plain")
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(InputError, match="does not say which model it belongs to"):
        load_system(str(adapter), prompt="plain")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"other.model\.safetensors' is no safetensors file"):
        load_system(str(other), prompt="plain")
    with pytest.raises(InputError, match=r"other.model\.safetensors' is no safetensors file"):
        LocalJudge(other, "kullm3")


def test_an_unknown_type_of_weights_is_refused_before_any_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "nowhere", "--dataset", "nowhere", "--dtype", "float8"])
    assert stopped.value.code == 2 and "'float8' is not one of 'bfloat16'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", "2"], "nothing says where they come from"),
        (["--shots-from", "others"], "nothing says how many"),
        (["--shots", "9", "--shots-from", "others"], "'others' has 3 rows and --shots is 9"),
        (["--shots", "1", "--shots-from", "tasks"], "The example 't-0' is one of the tasks"),
        (["--shots", "5", "--shots-from", "tasks", "--limit", "1"], "The example 't-0' is one of the tasks"),
    ],
)
def test_shots_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    others = [dataclasses.replace(record, id=f"o-{record.id}") for record in tasks(3)]
    datasets = {"tasks": tasks(6), "others": others}
    monkeypatch.setattr("kollm.dataset.folder.read_records", lambda name: iter(datasets[name]))
    monkeypatch.setattr("kollm.dataset.given.given_records", lambda name, options: iter(datasets[name]))
    main(["generate", "nowhere", "--dataset", "tasks", "--dry-run", "--shots", "3", "--shots-from", "others"])
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "nowhere", "--dataset", "tasks", "--dry-run", *options])
    assert stopped.value.code == 1 and message in capsys.readouterr().err


def test_samples_are_answers_of_their_own_and_resume(system: System, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    how = Decoding("sample", 12, samples=3)
    generate_answers(tasks(2), system, whole, how, batch_size=2)
    rows = list(read_generations(whole))
    assert [(row.id, row.sample) for row in rows] == [(f"t-{n}", k) for n in range(2) for k in range(3)]
    assert len({row.response for row in rows if row.id == "t-0"}) > 1
    part = killed.with_name(f"{generate._part_prefix(killed, system)}0")
    part.write_text("".join(whole.read_text(encoding="utf-8").splitlines(keepends=True)[4:]), encoding="utf-8")
    assert generate_answers(tasks(2), system, killed, how, batch_size=2) == 2
    assert killed.read_bytes() == whole.read_bytes()
    with pytest.raises(StateError, match="made with another samples \\(3, now None\\)"):
        generate_answers(tasks(2), system, whole, how._replace(samples=1), batch_size=2)


def test_a_preset_with_one_answer_is_not_sampled(system: System, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The preset greedy gives the same answer 4 times - draw samples by one of"):
        generate_answers(tasks(1), system, tmp_path / "g.jsonl", Decoding("greedy", samples=4))
