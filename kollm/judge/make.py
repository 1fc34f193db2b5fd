"""Judges by name, for the command line, recipes and the metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kollm.core.errors import InputError, MissingExtraError
from kollm.judge.rubric import Rubric
from kollm.judge.rubric_file import load_rubric
from kollm.judge.run import RulesJudge
from kollm.services.prices import DEFAULT_MODEL

if TYPE_CHECKING:
    from kollm.judge.local import LocalJudge
    from kollm.judge.served import ChatJudge, Mode
    from kollm.services.chat import ChatClient
    from kollm.services.ledger import Ledger

Engine = Literal["openai", "local", "rules"]
DEFAULT_CONCURRENCY = 32


def make_judge(
    engine: Engine,
    rubric: str | Path | Rubric,
    *,
    model: str | None = None,
    mode: Mode | None = None,
    samples: int = 1,
    base_url: str | None = None,
    key_env: str | None = None,
    max_cost: float | None = None,
    price: tuple[float, float] | None = None,
    concurrency: int | None = None,
    temperature: float | None = None,
    reply_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    keep_going: bool = False,
    ledger: Ledger | None = None,
) -> ChatJudge | LocalJudge | RulesJudge:
    """A judge behind an OpenAI-compatible service, a local causal model, or the rules of a rubric alone.

    Args:
        engine: `openai`, `local`, or `rules` for a rubric that asks nobody.
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.
        model: the service's model, by default a dated snapshot; for `local` a folder or Hub id, which has no default.
        mode: `text` (the default), `structured`, `rationale` or `logprob`; `local` and `rules` have only their own.
        samples: how often each answer is judged; `local` and `rules` always judge alike.
        base_url, key_env, max_cost, price, concurrency, ledger: as ChatClient takes them.
        temperature, keep_going: as ChatJudge takes them.
        reply_tokens, reasoning_tokens: room of a judgement, as Budget takes it.

    Raises:
        InputError: options that exclude each other, or what ChatJudge and LocalJudge raise.
        MissingExtraError: the extra that the engine needs is not installed.
    """
    of_a_service = {
        "mode": mode,
        "base_url": base_url,
        "key_env": key_env,
        "max_cost": max_cost,
        "price": price,
        "concurrency": concurrency,
        "temperature": temperature,
        "reply_tokens": reply_tokens,
        "reasoning_tokens": reasoning_tokens,
    }
    if engine == "rules":
        refuse_options("rules", samples=samples, model=model, **of_a_service)
        return RulesJudge(load_rubric(rubric))
    if engine == "local":
        name = local_model(model, samples=samples, **of_a_service)
        try:
            from kollm.judge.local import LocalJudge
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", "train") from error
        return LocalJudge(name, rubric)
    client = make_client(
        model,
        base_url=base_url,
        key_env=key_env,
        max_cost=max_cost,
        price=price,
        concurrency=concurrency,
        ledger=ledger,
    )
    from kollm.judge.served import Budget, ChatJudge

    return ChatJudge(
        client,
        rubric,
        mode=mode or "text",
        samples=samples,
        temperature=temperature,
        budget=Budget(reply_tokens, reasoning_tokens),
        keep_going=keep_going,
    )


def local_model(model: str | None, *, samples: int = 1, **of_a_service: object) -> str:
    """The local judge's model, once its options are found to leave out all that only a service has.

    Args:
        model: folder or Hub id.
        samples: how often each answer is judged.
        of_a_service: options by name; None where they were not given.

    Raises:
        InputError: no model, several samples, or an option that the local judge would ignore.
    """
    if model is None:
        raise InputError("The local judge has no default model - name a causal model: --model FOLDER_OR_HUB_ID.")
    refuse_options("local", samples=samples, **of_a_service)
    return model


def refuse_options(engine: Engine, *, samples: int = 1, **of_a_service: object) -> None:
    """Refuse the options that an engine which asks no service would ignore.

    Raises:
        InputError: one of them was given.
    """
    ignored = [name for name, value in of_a_service.items() if value is not None]
    if samples != 1:
        ignored.append("samples")
    if ignored:
        options = ", ".join("--" + name.replace("_", "-") for name in ignored)
        judge = "local judge scores by probabilities in one way" if engine == "local" else "engine rules counts"
        raise InputError(
            f"The {judge}, asks no service and costs nothing - leave out {options}, or use --engine openai."
        )


def make_client(
    model: str | None = None,
    *,
    base_url: str | None = None,
    key_env: str | None = None,
    max_cost: float | None = None,
    price: tuple[float, float] | None = None,
    concurrency: int | None = None,
    ledger: Ledger | None = None,
) -> ChatClient:
    """The chat client of a judge.

    Raises:
        InputError: a cap without a known price.
        MissingExtraError: the extra `judge` is not installed.
    """
    try:
        from kollm.services.chat import ChatClient
    except ImportError as error:
        raise MissingExtraError(error.name or "openai", "judge") from error
    return ChatClient(
        model or DEFAULT_MODEL,
        kind="judge",
        base_url=base_url,
        key_env=key_env,
        max_cost=max_cost,
        price=price,
        concurrency=DEFAULT_CONCURRENCY if concurrency is None else concurrency,
        ledger=ledger,
    )
