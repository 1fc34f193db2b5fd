"""Models as a stranger might publish them: with code, with pickles, with a configuration that fetches code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
class Config(GPTNeoXConfig):
    model_type = "stranger"
class Model(GPTNeoXForCausalLM):
    config_class = Config
class Tok(PreTrainedTokenizerFast):
    pass
"""


class Bomb:
    """What a pickle runs when it is loaded: it leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def with_code(base: Path, folder: Path, marker: Path, upstream: str = "") -> Path:
    """A model of an architecture of its own; the code is in the folder, or in another repository."""
    shutil.copytree(base, folder)
    (folder / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    where = f"{upstream}--own" if upstream else "own"
    change(folder / "config.json", model_type="stranger", architectures=["Model"])
    change(folder / "config.json", auto_map={"AutoConfig": f"{where}.Config", "AutoModelForCausalLM": f"{where}.Model"})
    return folder


def with_tokenizer_code(base: Path, folder: Path, marker: Path) -> Path:
    """A known architecture whose tokenizer is code of the repository's."""
    shutil.copytree(base, folder)
    (folder / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    change(folder / "tokenizer_config.json", tokenizer_class="Tok", auto_map={"AutoTokenizer": ["own.Tok", "own.Tok"]})
    return folder


def with_kernel(base: Path, folder: Path) -> Path:
    """A known architecture whose configuration asks for attention from a repository."""
    shutil.copytree(base, folder)
    change(folder / "config.json", attn_implementation="stranger/kernels")
    return folder


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
