"""Masks in the bases' own chat templates, token by token, against spans of characters found in the rendered text."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kollm.core.errors import InputError, RecipeError
from kollm.core.records import Record
from kollm.recipe.chat import ChatEncoder
from kollm.recipe.tokens import Row
from kollm.train.data import IGNORED, tokenise
from kollm.train.prompts import make_encoder, prove
from tests.train.templates import KOREAN, tokenizer_for, trl_templates

FAMILIES = {**trl_templates(), **KOREAN}
SINGLE = Record("r-1", "own", "질문 하나 abc", "", "대답 하나 xyz")
TALK = Record("r-2", "own", "질문 셋", "", "대답 셋", (("질문 하나", "대답 하나"), ("질문 둘", "대답 둘")))
CASES = {
    "single": SINGLE,
    "system": replace(SINGLE, system="너는 친절한 상담원이다."),
    "turns": TALK,
    "system and turns": replace(TALK, system="너는 친절한 상담원이다."),
}


def ids_of(row: Row) -> list[int]:
    return [token for span in row.spans for token in span.ids]


def mask_of(row: Row) -> list[bool]:
    return [span.learned for span in row.spans for _ in span.ids]


def expected(tokenizer: Any, messages: list[dict[str, Any]], first: int) -> tuple[list[int], list[bool]]:
    """Ids of `apply_chat_template`, and whether each token lies after an answer's prompt and before the next turn.

    An independent way: by the places of characters, one answer after the other, from message `first` on.
    """
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    spans = []
    for number in range(first, len(messages)):
        if messages[number]["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(messages[:number], tokenize=False, add_generation_prompt=True)
        until = tokenizer.apply_chat_template(messages[: number + 1], tokenize=False)
        start = len(common(asked, text))
        spans.append((start, len(common(until, text))))
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return ids, [any(start <= a and b <= end for start, end in spans) for a, b in offsets]


def common(first: str, second: str) -> str:
    length = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    return first[:length]


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("case", sorted(CASES))
def test_ids_are_those_of_the_server_and_each_answer_is_learned_with_its_end(name: str, case: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name])
    encoder = make_encoder("auto", tokenizer)
    assert isinstance(encoder, ChatEncoder)
    proof = prove(encoder)
    record = CASES[case]
    (rows,) = encoder.rows([record])
    apart = proof.turns == "apart" and bool(record.history)
    assert len(rows) == (1 + len(record.history) if apart else 1)
    learned = 0
    for row in rows:
        messages = encoder.messages(row.record)
        asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        prompt = encoder.prompt(row.record)
        ids, mask = ids_of(row), mask_of(row)
        assert prompt == asked[: len(asked) - encoder.grammar.opened]
        assert ids[: len(prompt)] == prompt, "a model is asked with the tokens that it was trained on"
        assert not any(mask[len(prompt) - 1 : len(prompt)])
        whole = tokenizer.apply_chat_template(messages, return_dict=False)
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        added = len(encoder.grammar.closing)
        assert tokenizer.decode(ids[: len(ids) - added]) == text
        if not row.merged:
            assert ids[: len(ids) - added] == whole
            if not added:
                first = len(messages) - 1 if row.last_only else 0
                assert (ids, mask) == expected(tokenizer, messages, first)
        for span in row.spans:
            if span.learned:
                learned += 1
                assert set(span.ids) & set(encoder.ends), "the model learns to stop"
                words = tokenizer.decode(span.ids)
                assert "대답" in words
                assert "질문" not in words
                assert "상담원" not in words
    assert learned == 1 + len(record.history)
    everything = "".join(tokenizer.decode(ids_of(row)) for row in rows)
    assert all(text in everything for text in record.texts().values())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_names_of_special_tokens_in_a_row_stay_text(name: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name])
    encoder = make_encoder("auto", tokenizer)
    named = tokenizer.decode([encoder.ends[0]])
    hostile = replace(TALK, instruction=f"질문 셋 {named} 끝", output=f"대답 {named} 셋", system=f"몸가짐 {named}")
    plain = replace(TALK, system="몸가짐")
    counts = [[ids_of(row).count(encoder.ends[0]) for row in encoder.rows([record])[0]] for record in (hostile, plain)]
    assert counts[0] == counts[1]
    assert named in tokenizer.decode(encoder.prompt(hostile)[-60:])
    text = tokenizer.decode(ids_of(encoder.rows([hostile])[0][-1]))
    assert f"대답 {named} 셋" in text


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_an_input_is_never_lost(name: str) -> None:
    tokenizer = tokenizer_for(FAMILIES[name])
    encoder = make_encoder("auto", tokenizer)
    record = replace(SINGLE, input="덧붙인 글")
    assert "질문 하나 abc\n\n덧붙인 글" in tokenizer.decode(encoder.prompt(record))
    assert encoder.notes(record) == ("input_after_instruction",)


def test_an_own_template_that_knows_the_input_gets_it_there(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}{% if m.input %} ({{ m.input }}){% endif %}{{ '\\nA: ' }}"
        "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
    )
    tokenizer = tokenizer_for("")
    encoder = make_encoder(str(file), tokenizer)
    record = replace(SINGLE, input="덧붙인 글", system="몸가짐")
    assert tokenizer.decode(encoder.prompt(record)) == "Q: 몸가짐\n\n질문 하나 abc (덧붙인 글)\nA: "
    assert encoder.notes(record) == ("system_before_instruction",)
    assert prove(encoder).end == "</s>"


def test_shared_marks_end_in_the_same_masks_as_trl() -> None:
    """Where TRL has generation marks, they were compared: all that it ships but those without marks, and those whose
    prompt ends in a newline that would be one token with the next."""
    masks = {name: prove(make_encoder("auto", tokenizer_for(text))).masks for name, text in trl_templates().items()}
    assert [name for name, kind in masks.items() if kind != "marks"] == [
        *(name for name in masks if name.startswith("gemma4")),
        *("llama3_1", "llama3_2", "qwen3_5_think", "qwen3_6", "qwen3_8"),
    ]


def test_qwen3_drops_earlier_reasoning_so_each_answer_has_its_own_row() -> None:
    tokenizer = tokenizer_for(trl_templates()["qwen3"])
    encoder = make_encoder("auto", tokenizer)
    assert prove(encoder).turns == "apart"
    data = tokenise([TALK], encoder, max_length=512)
    assert len(data.examples) == 3
    assert data.counts["turn_by_turn"] == 1
    last = data.examples[-1]
    learned = tokenizer.decode(last.labels[last.labels != IGNORED].tolist())
    assert learned == "<think>\n\n</think>\n\n대답 셋<|im_end|>\n"
    assert "대답 하나<|im_end|>" in tokenizer.decode(last.input_ids.tolist())


def test_thinking_is_a_key_of_the_recipe() -> None:
    template = trl_templates()["qwen3"]
    asked = []
    for thinking in (None, True, False):
        tokenizer = tokenizer_for(template)
        encoder = make_encoder("chat", tokenizer, enable_thinking=thinking)
        prove(encoder)
        asked.append(tokenizer.decode(encoder.prompt(SINGLE)))
    assert asked[0] == asked[1]
    assert asked[2] == f"{asked[0]}<think>\n\n</think>\n\n"
    opened = [
        prove(make_encoder("chat", tokenizer_for(trl_templates()["nemotron_3_nano"]), enable_thinking=thinking)).opened
        for thinking in (None, False)
    ]
    assert opened == ["<|im_end|>\n<|im_start|>assistant\n<think>\n", ""]
    with pytest.raises(RecipeError, match="enable_thinking is for chat templates"):
        make_encoder("kullm-2023", tokenizer_for(template), enable_thinking=True)


def test_the_end_of_an_answer_becomes_the_tokenizers_eos_where_the_template_does_not_write_it() -> None:
    qwen, phi = tokenizer_for(trl_templates()["qwen3"]), tokenizer_for(trl_templates()["phi3"])
    make_encoder("auto", qwen)
    assert qwen.eos_token == "<|im_end|>"
    ends = make_encoder("auto", phi).ends
    assert phi.eos_token == "</s>"
    assert [phi.decode([end]) for end in ends] == ["<|end|>", "</s>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "no chat template"),
        ("{% if %}", "does not write a question and its answer"),
        ("hello", "does not write a question and its answer"),
        (
            "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}",
            None,
        ),
        (
            "{{ messages[0].content }}{{ messages[1].content if messages[1] }}{{ eos_token }}",
            "conversation of two turns",
        ),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}",
            "differently once it is answered",
        ),
    ],
)
def test_what_cannot_be_masked_rightly_is_an_error_with_the_reason(template: str, message: str | None) -> None:
    tokenizer = tokenizer_for(template)
    if message is None:
        assert prove(make_encoder("chat", tokenizer)).masks == "prefixes"
        return
    with pytest.raises((RecipeError, InputError), match=message):
        prove(make_encoder("chat", tokenizer))


def test_a_row_that_the_template_refuses_is_named() -> None:
    tokenizer = tokenizer_for(
        "{% for m in messages %}{{ raise_exception('no pears') if 'pear' in m.content }}{{ '<|' + m.role + '|>' + m.content }}"
        "{% endfor %}{{ eos_token if not add_generation_prompt }}"
    )
    encoder = make_encoder("chat", tokenizer)
    with pytest.raises(InputError, match="no pears"):
        encoder.rows([replace(SINGLE, instruction="pear")])


def test_long_rows_are_cut_as_those_of_other_prompts() -> None:
    """Oldest turns first, then the input, then the answer with its end."""
    tokenizer = tokenizer_for(trl_templates()["llama3"])
    encoder = make_encoder("auto", tokenizer)
    record = replace(TALK, input="글 " * 40, output="답 " * 30)
    lengths = [
        encoder.row(row, False).length
        for row in (record, *(replace(record, history=TALK.history[n:]) for n in (1, 2)), replace(TALK, history=()))
    ]
    assert lengths == sorted(lengths, reverse=True)
    for limit, cut in (
        (lengths[0], None),
        (lengths[1], "history_cut"),
        (lengths[2] - 3, "input_cut"),
        (60, "completion_cut"),
    ):
        data = tokenise([record], encoder, max_length=limit)
        (example,) = data.examples
        assert len(example.input_ids) <= limit
        assert (example.labels[-1] == encoder.ends[0]) == (cut != "completion_cut")
        assert cut is None or data.counts[cut] == 1


@functools.cache
def families_table() -> str:
    """The table of `docs/prompts.md`, from the proofs."""
    lines = [
        "| family | from | masks by | answer ends with | rows | system message | tools |",
        "|---|---|---|---|---|---|---|",
    ]
    shipped = trl_templates()
    for name, template in sorted(FAMILIES.items()):
        encoder = make_encoder("auto", tokenizer_for(template))
        assert isinstance(encoder, ChatEncoder)
        proof, grammar = prove(encoder), encoder.grammar
        masks = {"marks": "prompts, TRL's marks agree", "prefixes": "prompts", "text": ""}[proof.masks]
        rows = {"together": "one", "apart": "one an answer"}[proof.turns]
        thinking = " (opens `<think>`)" if proof.opened else ""
        known = {"definitions": grammar.definitions, "turns": grammar.tools}
        tools = ", ".join(what for what, there in known.items() if there)
        origin = "TRL" if name in shipped else "grammar"
        end = proof.end.replace("|", "\\|")
        lines.append(f"| {name}{thinking} | {origin} | {masks} | `{end}` | {rows} | {proof.system} | {tools} |")
    return "\n".join(lines)


@pytest.mark.parametrize("page", ["prompts.md", "prompts.ko.md"])
def test_the_table_in_the_docs_is_drawn_from_the_proofs(page: str) -> None:
    """Run with KOLLM_DRAW=1 to draw it again."""
    path = Path(__file__).parents[2] / "docs" / page
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- families -->\n")
    _, end, tail = rest.partition("<!-- /families -->")
    drawn = f"{head}<!-- families -->\n{families_table()}\n{end}{tail}"
    if os.environ.get("KOLLM_DRAW"):
        path.write_text(drawn, encoding="utf-8")
    assert text == drawn or os.environ.get("KOLLM_DRAW")
