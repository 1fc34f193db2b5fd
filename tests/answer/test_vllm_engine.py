"""The vLLM engine against a stand-in with vLLM's signatures, whose model is the toy itself in transformers: same ids in, same out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from kollm.answer.engines import ENGINES, engine_for
from kollm.answer.file import read_generations
from kollm.answer.local import Loading, generate_answers, load_system
from kollm.answer.presets import PRESETS, Decoding
from kollm.cli import main
from kollm.core.errors import InputError
from kollm.core.records import Record
from tests.answer.conftest import WORDS


class SamplingParams:
    """vLLM's, as far as kollm names them; an unknown one is an error there too."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        max_tokens: int | None = 16,
        repetition_penalty: float = 1.0,
        ignore_eos: bool = False,
        stop_token_ids: list[int] | None = None,
        detokenize: bool = True,
    ) -> None:
        assert not detokenize, "there is no tokenizer in the engine"
        self.temperature, self.seed, self.max_tokens = temperature, seed, max_tokens
        self.ends = set(stop_token_ids or ())


class LoRARequest:
    """vLLM's three positional arguments."""

    def __init__(self, lora_name: str, lora_int_id: int, lora_path: str) -> None:
        self.lora_path = lora_path


class LLM:
    """vLLM's offline engine: greedy where the temperature is 0, else one seeded draw a token."""

    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[int]] = []

    def __init__(self, model: str, **options: Any) -> None:
        LLM.made.append(options)
        self._network: Any = AutoModelForCausalLM.from_pretrained(model).eval()

    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[Any]:
        LLM.asked.append(len(prompts))
        if lora_request and not isinstance(self._network, PeftModel):
            self._network = PeftModel.from_pretrained(self._network, lora_request.lora_path)
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._one(prompt["prompt_token_ids"], how) for prompt, how in pairs]

    @torch.inference_mode()
    def _one(self, prompt: list[int], how: SamplingParams) -> Any:
        drawn = torch.Generator().manual_seed(how.seed or 0)
        tokens: list[int] = []
        while len(tokens) < (how.max_tokens or 16) and not set(tokens) & how.ends:
            logits = self._network(torch.tensor([prompt + tokens])).logits[0, -1]
            if how.temperature == 0:
                tokens.append(int(logits.argmax()))
            else:
                tokens.append(int(torch.multinomial((logits / how.temperature).softmax(-1), 1, generator=drawn)))
        ended = bool(set(tokens) & how.ends)
        reason = "stop" if ended else "length"
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(tokens), finish_reason=reason)])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    whole, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vars(whole).update(LLM=LLM, SamplingParams=SamplingParams)
    vars(request)["LoRARequest"] = LoRARequest
    for name, module in {"vllm": whole, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    LLM.made, LLM.asked = [], []
    return LLM


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    settings = LoraConfig(r=12, target_modules=["query_key_value"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(folder)
    return folder


def tasks(count: int) -> list[Record]:
    return [Record(f"t-{n}", "human_eval", WORDS[: 4 + 3 * n], "", "참고") for n in range(count)]


def answers(engine: str, adapter: Path, base: Path, path: Path, **options: Any) -> list[tuple[str, str, int]]:
    how = Decoding(options.pop("preset"), 8, options.pop("samples", 1))
    system = load_system(str(adapter), base=str(base), prompt="kullm-2023", loading=Loading(engine=engine))
    generate_answers(tasks(5), system, path, how, **options)
    return [(answer.response, answer.finish_reason, answer.sample) for answer in read_generations(path)]


def test_an_adapter_answers_greedily_as_in_transformers(
    vllm: type[LLM], adapter: Path, base: Path, tmp_path: Path
) -> None:
    theirs = answers("vllm", adapter, base, tmp_path / "vllm.jsonl", preset="greedy", batch_size=2)
    assert theirs == answers("transformers", adapter, base, tmp_path / "own.jsonl", preset="greedy")
    assert vllm.asked == [2, 2, 1]
    (made,) = vllm.made
    assert made["enable_lora"] and made["max_lora_rank"] == 16 and not made["trust_remote_code"]
    params = [answer.params for answer in read_generations(tmp_path / "vllm.jsonl")]
    assert {value["engine"] for value in params} == {"vllm"}


def test_samples_have_seeds_of_their_own_and_resume_to_the_same(
    vllm: type[LLM], adapter: Path, base: Path, tmp_path: Path
) -> None:
    together = answers("vllm", adapter, base, tmp_path / "a.jsonl", preset="sample", samples=3, batch_size=15)
    assert together == answers("vllm", adapter, base, tmp_path / "b.jsonl", preset="sample", samples=3, batch_size=4)
    assert len(set(together)) > 5
    done = len(vllm.asked)
    assert together == answers("vllm", adapter, base, tmp_path / "b.jsonl", preset="sample", samples=3, batch_size=4)
    assert len(vllm.asked) == done  # all were there


def test_what_ended_an_answer_may_be_left_out_of_its_tokens(
    vllm: type[LLM], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SimpleNamespace(outputs=[SimpleNamespace(token_ids=(40, 41), finish_reason="stop")])
    monkeypatch.setattr(vllm, "generate", lambda self, prompts, *_, **__: [short] * len(prompts))
    system = load_system(str(base), prompt="kullm-2023", loading=Loading(engine="vllm"))
    generate_answers(tasks(1), system, tmp_path / "g.jsonl", Decoding("greedy", 8))
    assert [answer.finish_reason for answer in read_generations(tmp_path / "g.jsonl")] == ["stop"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "is of the kind DORA, and vLLM takes plain LoRA - merge it"),
        ({"peft_type": "IA3"}, "is of the kind IA3"),
        ({"modules_to_save": ["embed_in"]}, "trains modules_to_save"),
        ({"r": 1024}, "has rank 1024"),
    ],
)
def test_an_adapter_that_vllm_does_not_take_is_refused_before_it_starts(
    vllm: type[LLM], adapter: Path, base: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | change))
    with pytest.raises(InputError, match=words):
        load_system(str(tmp_path), base=str(base), prompt="kullm-2023", loading=Loading(engine="vllm"))
    assert vllm.made == []


def test_what_vllm_refuses_is_one_sentence(
    vllm: type[LLM], adapter: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, model: str, **_: Any) -> None:
        raise ValueError("GPTNeoXForCausalLM does not\nsupport LoRA yet.")

    monkeypatch.setattr(vllm, "__init__", refuse)
    with pytest.raises(InputError, match=r"does not support LoRA yet\.\) - merge the adapter \(kollm merge\)"):
        load_system(str(adapter), base=str(base), prompt="kullm-2023", loading=Loading(engine="vllm"))


def test_without_vllm_and_with_other_names_it_is_said(base: Path) -> None:
    with pytest.raises(InputError, match="The package 'vllm' is not installed"):
        load_system(str(base), prompt="kullm-2023", loading=Loading(engine="vllm"))
    with pytest.raises(InputError, match="no engine 'fast' - use one of transformers, vllm"):
        engine_for("fast", Decoding("greedy").params())


def test_beams_are_transformers_whatever_engine_is_asked_for(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(ENGINES) == {"transformers", "vllm"}
    searching = [name for name in PRESETS if engine_for("vllm", Decoding(name).params())[0] == "transformers"]
    assert searching == ["paper", "beam-sample"]
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"id": "q", "instruction": WORDS}, ensure_ascii=False) + "\n", encoding="utf-8")
    output = tmp_path / "g.jsonl"
    command = ["generate", str(base), "--dataset", str(questions), "-o", str(output), "--prompt", "kullm-2023"]
    main([*command, "--engine", "vllm", "--max-new-tokens", "4"])
    assert "the preset paper searches with 4 beams" in capsys.readouterr().err
    (answer,) = read_generations(output)
    assert "engine" not in answer.params
