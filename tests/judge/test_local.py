"""The local judge: its numbers against a plain computation, whatever the tokenizer, the batch and the context."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import PreTrainedTokenizerFast as FastTokenizer

from kollm.core.errors import InputError
from kollm.core.generations import Generation
from kollm.core.verdicts import Verdict
from kollm.judge.local import LocalJudge
from kollm.judge.rubric import Context, Rubric
from kollm.judge.rubric_file import RUBRICS, load_rubric
from kollm.judge.run import Question


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more than they gain by threads, the more so beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TEXTS = [path.read_text(encoding="utf-8") for path in sorted(RUBRICS.glob("*.yaml"))]


def byte_level(pattern: str | None = None) -> Tokenizer:
    """Byte-level BPE; with a pattern like Llama 3's, `):` and the newline after it become one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=700, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """Spaces become a piece of their own, digits stand alone: ` 4` is two tokens after the label."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "isolated"), pre_tokenizers.Digits(individual_digits=True)]
    )
    special = ["<eos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "newline melts into the label": lambda: byte_level(r" ?[^\s\p{L}\p{N}]+[\r\n]*| ?\p{L}+|\p{N}|\s+"),
    "space is a token": sentencepiece_like,
}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 2048},  # learned positions
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},  # ALiBi
    "mistral": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        **{"num_key_value_heads": 1, "sliding_window": 64},
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},  # no attention, no such cache
}


def save_model(folder: Path, tokenizer: Tokenizer, architecture: str = "gpt_neox", context: int = 2048) -> Path:
    torch.manual_seed(0)
    shape = {"max_position_embeddings": context, **ARCHITECTURES[architecture]}
    config = AutoConfig.for_model(
        architecture, vocab_size=tokenizer.get_vocab_size(), initializer_range=0.4, pad_token_id=None, **shape
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    FastTokenizer(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("judge"), TOKENIZERS[request.param]())


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("judge"), byte_level())


def generation(
    number: int, response: str, instruction: str = "다음 글을 요약하세요.", input: str = "긴 글입니다."
) -> Generation:
    return Generation(f"task-{number}", instruction, input, response, "base", "", {}, "stop", "base")


def judge_all(judge: LocalJudge, answers: list[Generation]) -> dict[str, Verdict]:
    verdicts: list[Verdict] = []
    judge.run([Question(answer) for answer in answers], verdicts.append)
    assert len(verdicts) == len(answers)
    return {verdict.id: verdict for verdict in verdicts}


ANSWERS = [
    generation(0, "짧은 답."),
    generation(1, "긴 답입니다. " * 20),
    generation(2, "", input=""),
    generation(3, "a\n\nb 4"),
]


def plain_expectation(folder: Path, rubric: Rubric, answer: Generation) -> list[tuple[float, float]]:
    """Score and mass of each axis, one unbatched pass for every prefix of every written score."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = rubric.prompt(answer.instruction, answer.input, answer.response)

    @functools.cache
    def logits(*ids: int) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(torch.tensor([ids])).logits[0, -1]
        return found

    results = []
    for axis, end in zip(rubric.axes, rubric.cuts, strict=True):
        cut = prompt[: len(prompt) - len(rubric.reply_form) + end]
        start = tokenizer(cut)["input_ids"]
        by_ids: dict[tuple[int, ...], int] = {}
        for value in axis.values:
            for written in (f" {value}", str(value)):
                whole = tokenizer(cut + written)["input_ids"]
                assert whole[: len(start)] == start
                by_ids.setdefault(tuple(whole[len(start) :]), value)
        probability: dict[int, float] = {}
        for ids, value in by_ids.items():
            logarithm = 0.0
            for place, token in enumerate(ids):
                logarithm += float(torch.log_softmax(logits(*start, *ids[:place]), -1)[token])
            probability[value] = probability.get(value, 0.0) + math.exp(logarithm)
        mass = sum(probability.values())
        results.append((sum(value * p for value, p in probability.items()) / mass, mass))
    return results


@pytest.mark.parametrize("name", ["kullm2023", "kullm2023-fixed", "kullm3"])
def test_expected_scores_equal_a_plain_computation(model_folder: Path, name: str) -> None:
    rubric = load_rubric(name)
    found = judge_all(LocalJudge(model_folder, rubric), ANSWERS)
    for answer in ANSWERS[1:2]:
        verdict = found[answer.id]
        assert verdict.status == "ok" and verdict.mode == "local" and verdict.rubric_sha256 == rubric.sha256
        for axis, (score, mass) in zip(rubric.axes, plain_expectation(model_folder, rubric, answer), strict=True):
            assert verdict.scores[axis.key] == pytest.approx(score, abs=2e-5)
            assert verdict.usage["mass"][axis.key] == pytest.approx(mass, rel=1e-4)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_any_causal_architecture(architecture: str, tmp_path: Path) -> None:
    rubric = load_rubric("kullm2023")
    folder = save_model(tmp_path, byte_level(), architecture)
    found = judge_all(LocalJudge(folder, rubric), ANSWERS)
    expected = [score for score, _ in plain_expectation(folder, rubric, ANSWERS[1])]
    assert list(found["task-1"].scores.values()) == pytest.approx(expected, abs=2e-5)


def test_batched_and_one_at_a_time_agree(model_folder: Path) -> None:
    together = judge_all(LocalJudge(model_folder, "kullm2023"), ANSWERS)
    alone = judge_all(LocalJudge(model_folder, "kullm2023", batch_tokens=1), ANSWERS)
    for answer in ANSWERS:
        assert together[answer.id].scores == pytest.approx(alone[answer.id].scores, abs=2e-5)


def test_one_pass_serves_all_axes_where_the_token_ids_agree(plain_folder: Path) -> None:
    judge = LocalJudge(plain_folder, "kullm2023")
    judge.continuations = [{ids: value for ids, value in each.items() if len(ids) == 1} for each in judge.continuations]
    cuts = judge._cuts(Context(), "지시", "입력", "답")
    assert [one.lengths for one in judge._passes(0, cuts)] == [tuple(len(cut) for cut in reversed(cuts))]


def test_the_raw_reply_holds_the_probabilities(plain_folder: Path) -> None:
    verdict = judge_all(LocalJudge(plain_folder, "kullm2023"), ANSWERS[:1])["task-0"]
    raw = json.loads(verdict.raw)
    assert set(raw["overall_quality"]) == {"1", "2", "3", "4", "5"}
    assert sum(raw["naturalness"].values()) == pytest.approx(verdict.usage["mass"]["naturalness"], rel=1e-4)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_scores_of_several_digits(tmp_path: Path, architecture: str) -> None:
    values = {
        "name": "ten",
        "language": "en",
        "axes": [{"key": "quality", "label": "Quality", "low": 1, "high": 10}],
        "prompt": "{instruction} {input} {response}",
        "reply_form": "Quality (1-10):",
    }
    (tmp_path / "ten.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    rubric = load_rubric(tmp_path / "ten.yaml")
    folder = save_model(tmp_path / "model", sentencepiece_like(), architecture)
    judge = LocalJudge(folder, rubric)
    assert sorted({len(ids) for ids in judge.continuations[0]}) == [1, 2, 3]
    verdict = judge_all(judge, ANSWERS[:1])["task-0"]
    raw = {int(value): p for value, p in json.loads(verdict.raw)["quality"].items()}
    # The share of 10 is not counted again under 1: what is left of 1 and the share of 10 make the plain mass of 1.
    plain = plain_expectation(folder, rubric, ANSWERS[0])[0][1]
    assert sum(raw.values()) == pytest.approx(plain - raw[10], rel=1e-3)
    assert verdict.scores["quality"] == pytest.approx(sum(v * p for v, p in raw.items()) / sum(raw.values()), abs=1e-4)


def test_a_prompt_longer_than_the_context_loses_the_end_of_the_response_and_says_so(tmp_path: Path) -> None:
    tokenizer = byte_level()
    rubric = load_rubric("kullm2023")
    room = len(tokenizer.encode(rubric.prompt("지시", "입력", "")).ids) + 60
    judge = LocalJudge(save_model(tmp_path / "model", tokenizer, context=room), rubric)
    long = generation(1, "가나다라 " * 200, "지시", "입력")
    found = judge_all(
        judge, [generation(0, "짧음", "지시", "입력"), long, generation(2, "답", "지시 " * 300, "입력 " * 300)]
    )
    assert "omitted_characters" not in found["task-0"].usage
    omitted = found["task-1"].usage["omitted_characters"]["response"]
    assert found["task-1"].usage["prompt_tokens"] <= room
    kept = long.response[: len(long.response) - omitted]
    assert len(kept) > 20
    short = judge_all(judge, [generation(1, kept, "지시", "입력")])["task-1"]
    assert short.scores == pytest.approx(found["task-1"].scores, abs=2e-5) and "omitted_characters" not in short.usage
    assert set(found["task-2"].usage["omitted_characters"]) == {"response", "input", "instruction"}
    assert found["task-2"].status == "ok"


def test_definitions_of_tools_are_cut_before_the_answer(tmp_path: Path) -> None:
    values = yaml.safe_load((RUBRICS / "kullm3.yaml").read_text(encoding="utf-8"))
    values |= {"name": "mine", "prompt": "{?tools}T {tools} {/tools}<{fence}> {instruction} {response}", "prompt_without_input": None}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    tokenizer, rubric = byte_level(), load_rubric(tmp_path / "mine.yaml")
    room = len(tokenizer.encode(rubric.prompt("지시", "", "가나다라 " * 20)).ids) + 60
    judge = LocalJudge(save_model(tmp_path / "model", tokenizer, context=room), rubric)
    long = replace(generation(0, "가나다라 " * 20, "지시"), tools="x" * 5_000)
    omitted = judge_all(judge, [long])["task-0"].usage["omitted_characters"]
    assert list(omitted) == ["tools"] and 4_900 < omitted["tools"] < 5_000


def test_a_context_too_short_for_the_rubric_is_one_clear_sentence(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", byte_level(), context=64)
    with pytest.raises(InputError, match="reads 64 tokens, and the rubric 'kullm2023' alone takes"):
        LocalJudge(folder, "kullm2023")


@pytest.mark.parametrize("files", [{}, {"config.json": '{"model_type": "t5"}'}, {"config.json": "{"}])
def test_a_folder_without_a_causal_model(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be loaded|not valid JSON|has no weights|holds no model"):
        LocalJudge(tmp_path, "kullm2023")
    with pytest.raises(InputError, match="There is no folder"):
        LocalJudge(tmp_path / "nowhere", "kullm2023")


def test_a_model_that_gives_no_probabilities_gets_null_scores(plain_folder: Path) -> None:
    judge = LocalJudge(plain_folder, "kullm2023")
    with torch.no_grad():
        judge.model.get_output_embeddings().weight.fill_(float("nan"))
    verdict = judge_all(judge, ANSWERS[:1])["task-0"]
    assert verdict.status == "parse_error" and set(verdict.scores.values()) == {None}
    json.dumps(verdict.to_row(), allow_nan=False)


def test_another_judge_in_a_folder_of_the_same_name_has_verdicts_of_its_own(tmp_path: Path) -> None:
    first = LocalJudge(save_model(tmp_path / "a" / "judge", byte_level()), "kullm2023", name="judge")
    assert LocalJudge(save_model(tmp_path / "b" / "judge", byte_level()), "kullm2023", name="judge").name == first.name
    folder = save_model(tmp_path / "c" / "judge", byte_level())
    (folder / "generation_config.json").write_text("{}")
    other = LocalJudge(folder, "kullm2023", name="judge")
    assert first.name.startswith("judge@") and other.name.startswith("judge@") and first.name != other.name
    found = {judge.name: judge_all(judge, ANSWERS[:1])["task-0"].key() for judge in (first, other)}
    assert len(set(found.values())) == 2
