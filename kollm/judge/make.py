"""Judges by name, for the command line, recipes and the metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kollm.errors import InputError, MissingExtraError
from kollm.judge.rubric import Rubric
from kollm.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from kollm.chat import ChatClient
    from kollm.judge.local import LocalJudge
    from kollm.judge.served import ChatJudge, Mode
    from kollm.ledger import Ledger

Engine = Literal["openai", "local"]


def make_judge(
    engine: Engine,
    rubric: str | Path | Rubric,
    *,
    model: str | None = None,
    mode: Mode = "text",
    samples: int = 1,
    base_url: str | None = None,
    max_cost: float | None = None,
    price: tuple[float, float] | None = None,
    concurrency: int = 32,
    temperature: float | None = None,
    ledger: Ledger | None = None,
) -> ChatJudge | LocalJudge:
    """A judge behind an OpenAI-compatible service, or a local causal model.

    Args:
        engine: `openai` or `local`.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.
        model: the service's model, by default a dated snapshot; for `local` a folder or Hub id, which has no default.
        mode: `text`, `structured` or `logprob`; `local` has only its own.
        samples: how often each answer is judged; `local` always judges alike.
        base_url, max_cost, price, concurrency, ledger: as ChatClient takes them.
        temperature: as ChatJudge takes it.

    Raises:
        InputError: options that exclude each other, or what ChatJudge and LocalJudge raise.
        MissingExtraError: the extra that the engine needs is not installed.
    """
    if engine == "local":
        if model is None:
            raise InputError("The local judge has no default model - name a causal model: --model FOLDER_OR_HUB_ID.")
        if mode != "text" or samples != 1 or base_url or max_cost is not None or temperature is not None:
            raise InputError(
                "The local judge scores by probabilities in one way and costs nothing - leave out --mode, --samples, "
                "--base-url, --max-cost and --temperature, or use --engine openai."
            )
        try:
            from kollm.judge.local import LocalJudge
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", "train") from error
        return LocalJudge(model, rubric)
    client = make_client(
        model, base_url=base_url, max_cost=max_cost, price=price, concurrency=concurrency, ledger=ledger
    )
    from kollm.judge.served import ChatJudge

    return ChatJudge(client, rubric, mode=mode, samples=samples, temperature=temperature)


def make_client(
    model: str | None = None,
    *,
    base_url: str | None = None,
    max_cost: float | None = None,
    price: tuple[float, float] | None = None,
    concurrency: int = 32,
    ledger: Ledger | None = None,
) -> ChatClient:
    """The chat client of a judge.

    Raises:
        InputError: a cap without a known price.
        MissingExtraError: the extra `judge` is not installed.
    """
    try:
        from kollm.chat import ChatClient
    except ImportError as error:
        raise MissingExtraError(error.name or "openai", "judge") from error
    return ChatClient(
        model or DEFAULT_MODEL,
        kind="judge",
        base_url=base_url,
        max_cost=max_cost,
        price=price,
        concurrency=concurrency,
        ledger=ledger,
    )
