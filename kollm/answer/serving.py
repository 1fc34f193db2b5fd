"""The command line that serves an adapter or a model: vLLM's where it is installed, else transformers' own server."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from kollm.core.errors import InputError, MissingExtraError
from kollm.core.files import read_json
from kollm.services.adapter_base import find_adapter_base
from kollm.services.local_model import find_model

Engine = Literal["auto", "vllm", "transformers"]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def serve_command(
    place: str,
    *,
    engine: Engine = "auto",
    base: str | None = None,
    host: str = "localhost",
    port: int = 8000,
    installed: Callable[[str], bool] = _installed,
) -> list[str]:
    """The line that serves an OpenAI-compatible API.

    Args:
        place: folder or Hub id of an adapter, a merged model or a base.
        engine: whose server; `auto` takes vLLM where it is installed.
        base: where an adapter's base is, if not where it says.
        host: address to listen on.
        port: port to listen on.
        installed: tells whether a package is there.

    Raises:
        InputError: there is no such model, or it does not fit its base.
        MissingExtraError: neither server is installed.
    """
    found = find_model(place)
    under = find_adapter_base(found, base) if found.is_adapter else found
    chosen = engine if engine != "auto" else "vllm" if installed("vllm") else "transformers"
    thinking = _thinking(found.folder)
    where = ["--host", host, "--port", str(port)]
    if chosen == "vllm":
        if not installed("vllm"):
            raise InputError("The package 'vllm' is not installed - install it with: pip install vllm.")
        line = ["vllm", "serve", under.repository or str(under.folder), *where]
        template = found.folder / "chat_template.jinja"
        if template.is_file():
            line += ["--chat-template", str(template)]
        if thinking is not None:
            line += ["--default-chat-template-kwargs", json.dumps({"enable_thinking": thinking})]
        if found.is_adapter:
            name = Path(place).name or "adapter"
            rank = int(read_json(found.folder / "adapter_config.json").get("r") or 16)
            line += ["--enable-lora", "--lora-modules", f"{name}={found.folder}", "--max-lora-rank", str(max(rank, 8))]
        return line
    if not (installed("fastapi") and installed("uvicorn")):
        raise MissingExtraError("fastapi", "app")
    if found.is_adapter:
        raise InputError(
            f"transformers' server loads whole models, and '{found.name}' is an adapter - merge it first: kollm merge "
            f"{place} -o DIR, then kollm serve DIR; or install vLLM, which serves adapters."
        )
    line = [sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", str(found.folder), *where]
    if thinking is not None:
        line += ["--chat-template-kwargs", json.dumps({"enable_thinking": thinking})]
    return line


def served_name(place: str, command: list[str]) -> str:
    """What a request calls the model."""
    return Path(place).name if "--lora-modules" in command else command[command.index("serve") + 1]


def _thinking(folder: Path) -> bool | None:
    marker = folder / "training.json"
    trained = read_json(marker) if marker.is_file() else {}
    value = trained.get("recipe", {}).get("enable_thinking")
    return value if isinstance(value, bool) else None
