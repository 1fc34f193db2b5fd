"""Judges by name, for the command line, recipes and the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    from kollm.services.budget import Budget
    from kollm.services.chat import ChatClient
    from kollm.services.ledger import Ledger

Engine = Literal["openai", "local", "rules"]


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Which judge, and how it is asked.

    Attributes:
        engine: `openai`, `local`, or `rules` for a rubric that asks nobody.
        model: the service's model, by default a dated snapshot; for `local` a folder or Hub id, which has no default.
        mode: `text` (the default), `structured`, `rationale` or `logprob`; `local` and `rules` have only their own.
        samples: how often each answer is judged; `local` and `rules` always judge alike.
        base_url, key_env, max_cost, price, concurrency: as ChatService takes them.
        temperature, keep_going: as ChatJudge takes them.
        reply_tokens, reasoning_tokens: room of a judgement, as ReplyBudget takes it.
    """

    engine: Engine = "openai"
    model: str | None = None
    mode: Mode | None = None
    samples: int = 1
    base_url: str | None = None
    key_env: str | None = None
    max_cost: float | None = None
    price: tuple[float, float] | None = None
    concurrency: int | None = None
    temperature: float | None = None
    reply_tokens: int | None = None
    reasoning_tokens: int | None = None
    keep_going: bool = False

    def client(self, ledger: Ledger | None = None, budget: Budget | None = None) -> ChatClient:
        """The chat client of such a judge; `budget` is shared with others, in place of `max_cost`.

        Raises:
            InputError: a cap without a known price.
            MissingExtraError: the extra `judge` is not installed.
        """
        try:
            from kollm.services.chat import ChatClient, ChatService
        except ImportError as error:
            raise MissingExtraError(error.name or "openai", "judge") from error
        given = {name: getattr(self, name) for name in ("base_url", "key_env", "max_cost", "price", "concurrency")}
        return ChatClient(
            ChatService.of_options(self.model or DEFAULT_MODEL, given), kind="judge", ledger=ledger, budget=budget
        )

    def local_model(self) -> str:
        """The local judge's model, once its options are found to leave out all that only a service has.

        Raises:
            InputError: no model, several samples, or an option that the local judge would ignore.
        """
        if self.model is None:
            raise InputError("The local judge has no default model - name a causal model: --model FOLDER_OR_HUB_ID.")
        self._refuse_ignored("local judge scores by probabilities in one way", of_a_service=_OF_A_SERVICE)
        return self.model

    def refuse_model(self) -> None:
        """Refuse what an engine ignores that asks no model at all.

        Raises:
            InputError: one of those options was given.
        """
        self._refuse_ignored("engine rules counts", of_a_service=("model", *_OF_A_SERVICE))

    def _refuse_ignored(self, judge: str, *, of_a_service: Sequence[str]) -> None:
        ignored = [name for name in of_a_service if getattr(self, name) is not None]
        if self.samples != 1:
            ignored.append("samples")
        if ignored:
            options = ", ".join("--" + name.replace("_", "-") for name in ignored)
            raise InputError(
                f"The {judge}, asks no service and costs nothing - leave out {options}, or use --engine openai."
            )


_OF_A_SERVICE = (
    *("mode", "base_url", "key_env", "max_cost", "price"),
    *("concurrency", "temperature", "reply_tokens", "reasoning_tokens"),
)


def make_judge(
    rubric: str | Path | Rubric,
    options: JudgeOptions | None = None,
    *,
    ledger: Ledger | None = None,
    budget: Budget | None = None,
) -> ChatJudge | LocalJudge | RulesJudge:
    """A judge behind an OpenAI-compatible service, a local causal model, or the rules of a rubric alone.

    Args:
        rubric: a Rubric, the name of a shipped one, or the path of a rubric file.
        options: which judge; by default OpenAI's default model.
        ledger: where a service's answers are kept; by default the user's own.
        budget: one that is shared with other judges, in place of `options.max_cost`.

    Raises:
        InputError: options that exclude each other, or what ChatJudge and LocalJudge raise.
        MissingExtraError: the extra that the engine needs is not installed.
    """
    options = options or JudgeOptions()
    if options.engine == "rules":
        options.refuse_model()
        return RulesJudge(load_rubric(rubric))
    if options.engine == "local":
        name = options.local_model()
        try:
            from kollm.judge.local import LocalJudge
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", "train") from error
        return LocalJudge(name, rubric)
    client = options.client(ledger, budget)
    from kollm.judge.served import Asking, ChatJudge, ReplyBudget

    room = ReplyBudget(options.reply_tokens, options.reasoning_tokens)
    asking = Asking(options.mode or "text", options.samples, options.temperature, room)
    return ChatJudge(client, rubric, asking, keep_going=options.keep_going)
