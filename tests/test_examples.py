"""The programs of examples/ run whole, on models made on the spot and a loopback judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import ToyBase
from kollm.train.toy import make_base
from tests.judge.conftest import REPLY
from tests.processes import Starter, finish
from tests.servers.chat import LoopbackChat

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WORDS = "서울은 대한민국의 수도입니다. 물은 섭씨 0도에서 업니다. 오늘 날씨가 좋습니다."
TOY = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=4096, pretrain_steps=5, pretrain_block=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base("gpt_neox", TOY, [WORDS] * 20, folder)
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(training_starter: Starter, tmp_path: Path) -> Run:
    """A function that runs a program to its end and gives what it printed."""

    def run(program: Path, *arguments: object, **variables: str) -> str:
        environment = {"KOLLM_LEDGER": str(tmp_path / "ledger.db"), **variables}
        process = training_starter.start(arguments, tmp_path, environment, program)
        finish([process])
        return process.printed

    return run


@pytest.fixture
def shell(training_starter: Starter, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A function that runs a command in a shell's environment with a `kollm` in its PATH and gives what it printed."""

    def shell(*command: str | Path) -> str:
        environment = {
            **os.environ,
            "KOLLM_LEDGER": str(tmp_path / "ledger.db"),
            "HF_HOME": str(tmp_path / "hf"),
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(EXAMPLES.parent),
        }
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with training_starter.command(tmp_path_factory.mktemp("bin")) as programs:
        yield shell


def test_the_notebook_judges_two_answers(run: Run, tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "judge_in_a_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    program = tmp_path / "notebook.py"
    program.write_text(code, encoding="utf-8")
    with LoopbackChat(lambda body: REPLY) as chat:
        said = run(program, OPENAI_API_KEY="k", OPENAI_BASE_URL=chat.url)
        assert "2 of 2 answers scored" in said and "naturalness" in said
        assert run(program, OPENAI_API_KEY="k", OPENAI_BASE_URL=chat.url) == said
        assert len(chat.bodies) == 2


def test_two_rubrics_are_combined(run: Run) -> None:
    with LoopbackChat(lambda body: REPLY) as chat:
        said = run(EXAMPLES / "metric_combine.py", OPENAI_API_KEY="k", OPENAI_BASE_URL=chat.url)
    assert "naturalness" in said and len(chat.bodies) == 4


def test_an_adapter_answers_in_plain_peft(run: Run, base: Path, tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["query_key_value"]))
    model.save_pretrained(tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = PromptTemplate.load("kullm-2023").chat_template
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert run(EXAMPLES / "plain_peft.py", tmp_path / "adapter", "수도는?").endswith("\n")


def test_a_dataset_is_made_of_ones_own_file(shell: Run, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "환불은 언제 되나요?"}, {"role": "assistant", "content": "사흘 안에 됩니다."}]
    (tmp_path / "my.jsonl").write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    said = shell("sh", EXAMPLES / "dataset_from_own_file.sh", "my.jsonl", "my-rows", "CC-BY-4.0")
    assert "Rows: 1 - the first: 환불은 언제 되나요?" in said


@pytest.mark.slow
def test_two_models_are_compared(base: Path, shell: Run, tmp_path: Path) -> None:
    shell("kollm", "data", "build", "human_eval", "--input", "sample", "-o", "tasks")
    other = tmp_path / "other"
    make_base("gpt_neox", TOY.model_copy(update={"seed": 1}), [WORDS] * 20, other)
    said = shell("sh", EXAMPLES / "compare_two_models.sh", base, other, base, "tasks")
    assert "naturalness" in said and "a" in said
