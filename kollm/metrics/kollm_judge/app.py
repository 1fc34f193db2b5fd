"""The Space: judge a few answers with a key of your own.

python app.py
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kollm.core.errors import InputError, KollmError
from kollm.judge.rubric_file import load_rubric, rubric_names
from kollm.judge.served import Asking, ChatJudge, Mode
from kollm.metrics.judging import check_columns, judge_columns, summary
from kollm.services.chat import ChatClient, ChatService
from kollm.services.ledger import Ledger
from kollm.services.prices import DEFAULT_MODEL

MODELS = (DEFAULT_MODEL, "gpt-5.4-mini-2026-03-17")
MOST_ROWS = 50
COLUMNS = ("instruction", "input", "response")
EXAMPLE = [["대한민국의 수도는 어디인가요?", "", "대한민국의 수도는 서울입니다."]]


class Asked(NamedTuple):
    """What a visitor chose; `key` is empty where the Space's own is to pay."""

    key: str
    model: str
    rubric: str
    mode: Mode


class Account(NamedTuple):
    """Whose key pays, and how many USD it may still pay; None for no cap."""

    key: str
    left: float | None


class Spending:
    """What the Space's own key has paid since the Space started."""

    def __init__(self) -> None:
        self.total = 0.0


def account(typed: str, environment: Mapping[str, str], spending: Spending) -> Account:
    """The key typed by the visitor; else the Space's secret, if the Space is private or has a cap.

    Raises:
        InputError: there is no key that may be used.
    """
    if typed.strip():
        return Account(typed.strip(), None)
    secret = environment.get("OPENAI_API_KEY", "")
    if not secret:
        raise InputError("No key - type an OpenAI key; it is used for this run and not kept.")
    if environment.get("KOLLM_SPACE_PRIVATE") == "1":
        return Account(secret, None)
    try:
        cap = float(environment.get("KOLLM_SPACE_MAX_COST", ""))
    except ValueError:
        raise InputError(
            "This Space's own key is not used: its owner set neither KOLLM_SPACE_PRIVATE=1 (in a private Space) nor "
            "KOLLM_SPACE_MAX_COST (USD in all) - type a key of yours."
        ) from None
    if spending.total >= cap:
        raise InputError("This Space's own key has reached its cap - type a key of yours.")
    return Account(secret, cap - spending.total)


def judge_table(
    rows: Sequence[Sequence[Any]],
    asked: Asked,
    environment: Mapping[str, str],
    spending: Spending,
) -> tuple[list[list[Any]], str]:
    """Judge the rows of a table.

    Returns:
        One row of scores, status and raw reply for each answer; and a sentence on the whole, or on what is wrong.
    """
    try:
        filled = [["" if cell is None else str(cell) for cell in row] for row in rows]
        filled = [row for row in filled if any(cell.strip() for cell in row)]
        columns = check_columns(
            dict(zip(COLUMNS, zip(*filled, strict=True), strict=True)) if filled else {"response": []}
        )
        if len(filled) > MOST_ROWS:
            raise InputError(f"There are {len(filled)} rows - judge at most {MOST_ROWS} here, or run `kollm judge`.")
        payer = account(asked.key, environment, spending)
        with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite3") as ledger:
            service = ChatService(asked.model, max_cost=payer.left, key=payer.key, concurrency=8)
            client = ChatClient(service, kind="judge", ledger=ledger)
            judge = ChatJudge(client, asked.rubric, Asking(asked.mode))
            try:
                verdicts = judge_columns(judge, columns["response"], columns["instruction"], columns["input"])
            finally:
                if payer.left is not None:
                    spending.total += client.spent
        result = summary(verdicts, judge)
    except KollmError as error:
        return [], str(error)
    axes = load_rubric(asked.rubric).axes
    table = [[*(verdict.scores[axis.key] for axis in axes), verdict.status, verdict.raw] for verdict in verdicts]
    means = ", ".join(f"{axis.label} {result[axis.key]:.2f}" for axis in axes if result[axis.key] is not None)
    return table, f"{result['n_scored']} of {result['n']} scored. {means} · USD {result['cost']:.4f}"


def build() -> Any:
    """The page."""
    import gradio as gr

    spending = Spending()

    def run(rows: list[list[Any]], key: str, model: str, rubric: str, mode: Mode) -> tuple[Any, str]:
        table, words = judge_table(rows, Asked(key, model, rubric, mode), os.environ, spending)
        headers = [axis.label for axis in load_rubric(rubric).axes]
        return gr.Dataframe(value=table, headers=[*headers, "status", "reply"]), words

    with gr.Blocks(title="KoLLM judge") as page:
        gr.Markdown(
            "# KoLLM judge\nScores Korean answers on the axes of a rubric. The key is used for one run and not kept."
        )
        answers = gr.Dataframe(value=EXAMPLE, headers=list(COLUMNS), type="array", label="Answers", interactive=True)
        with gr.Row():
            key = gr.Textbox(label="OpenAI key", type="password")
            model = gr.Dropdown(list(MODELS), value=MODELS[0], label="Model")
            rubric = gr.Dropdown(rubric_names(), value="kullm2023", label="Rubric")
            mode = gr.Radio(["text", "structured"], value="text", label="Mode")
        button = gr.Button("Judge", variant="primary")
        words = gr.Markdown()
        scores = gr.Dataframe(label="Verdicts", interactive=False)
        # One run at a time: the cap on the Space's own key is counted between runs. Nothing is exposed as an API.
        button.click(
            run, [answers, key, model, rubric, mode], [scores, words], concurrency_limit=1, api_visibility="private"
        )
    return page


if __name__ == "__main__":
    build().launch()
