"""Prompt templates: byte for byte as the paper and the released models have them, and one text for all uses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kollm.core.errors import InputError, RecipeError
from kollm.core.records import Record
from kollm.recipe.prompt import PromptTemplate

GOLDEN = Path(__file__).parent / "golden"
INSTRUCTION, INPUT, OUTPUT = (
    "글을 한 문장으로 요약하세요.",
    "가을 하늘은 높고 맑다.\n바람도 선선하다.",
    "맑고 선선한 가을이다.",
)
SYSTEM = "너는 친절한 상담원이다."
HISTORY = (("한국의 수도는?", "서울입니다."), ("인구는?", "약 940만 명입니다."))


def record(input="", history=(), system=""):
    return Record("r-1", "test", INSTRUCTION, input, OUTPUT, history, system)


@pytest.mark.parametrize("name", ["kullm-2023", "kullm-v2"])
@pytest.mark.parametrize(
    ("case", "row"),
    [("single", record(INPUT)), ("no_input", record()), ("three_turn", record(INPUT, HISTORY))],
)
def test_golden_text(name, case, row):
    template = PromptTemplate.load(name)
    golden = (GOLDEN / f"{name}.{case}.txt").read_bytes()
    assert template.text(row).encode("utf-8") == golden
    prompt = template.prompt(row.instruction, row.input, row.history).encode("utf-8")
    assert golden == prompt + f"{OUTPUT}<|endoftext|>".encode()
    assert prompt.endswith("\n\n### 응답:\n".encode())


def test_the_headings_differ_as_the_paper_and_the_released_models_do():
    assert "### 지시어:\n" in PromptTemplate.load("kullm-2023").prompt("a")
    assert "### 명령어:\n" in PromptTemplate.load("kullm-v2").prompt("a")
    assert PromptTemplate.load("kullm-2023").sha256 != PromptTemplate.load("kullm-v2").sha256


@pytest.mark.parametrize("name", PromptTemplate.names())
def test_a_tokenizer_renders_the_same_text(name):
    """What transformers makes of the exported chat template is what training and generation use."""
    from kollm.train.toy import train_tokenizer

    template = PromptTemplate.load(name)
    tokenizer = train_tokenizer(["가나다라 응답 지시어"] * 3, 300)
    tokenizer.chat_template = template.chat_template
    for row in (record(INPUT), record(), record(INPUT, HISTORY), record("", HISTORY), record(INPUT, HISTORY, SYSTEM)):
        assert tokenizer.apply_chat_template(row.messages(), tokenize=False) == template.text(row)
        asked = tokenizer.apply_chat_template(row.messages()[:-1], tokenize=False, add_generation_prompt=True)
        assert asked == template.prompt(row.instruction, row.input, row.history, system=row.system)


@pytest.mark.parametrize("name", ["kullm-2023", "kullm-v2"])
def test_a_system_message_goes_before_the_first_instruction(name):
    """As if it had been written there: these templates have no other place for it."""
    template = PromptTemplate.load(name)
    row = record(INPUT, HISTORY, SYSTEM)
    (question, answer), *rest = HISTORY
    folded = record(INPUT, ((f"{SYSTEM}\n\n{question}", answer), *rest))
    assert template.text(row) == template.text(folded)
    assert template.segments(row) == template.segments(folded)
    single = template.prompt(INSTRUCTION, system=SYSTEM)
    assert single == template.prompt(f"{SYSTEM}\n\n{INSTRUCTION}")
    empty = [{"role": "system", "content": ""}, {"role": "user", "content": INSTRUCTION}]
    assert template.render(empty, add_generation_prompt=True) == template.prompt(INSTRUCTION)


def test_the_stops_are_the_templates_own_headings():
    headings = ("### 지시어:", "### 명령어:", "### 입력:", "### 응답:")
    assert PromptTemplate.load("kullm-2023").stop == PromptTemplate.load("kullm-v2").stop == headings
    assert PromptTemplate.load("plain").stop == ()
    own = PromptTemplate("own", "{{ '### User:\\n' ~ messages[0]['content'] ~ '\\n\\n### Assistant:\\n' }}")
    assert own.stop == ("### User:", "### Assistant:")


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(texts, texts), max_size=3), texts, st.one_of(st.just(""), texts), texts)
def test_segments_join_to_the_text_and_learn_answers_only(history, instruction, input, output):
    template = PromptTemplate.load("kullm-2023")
    row = Record("r-1", "test", instruction, input, output, tuple(history))
    segments = template.segments(row)
    assert "".join(segment.text for segment in segments) == template.text(row)
    answers = [answer for _, answer in history] + [output]
    assert [s.text for s in segments if s.learned] == [f"{answer}<|endoftext|>" for answer in answers]


def test_a_template_cannot_reach_python():
    hostile = PromptTemplate("hostile", "{{ messages.__class__.__mro__ }}")
    with pytest.raises(InputError, match="cannot render"):
        hostile.render([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    ],
)
def test_turns_out_of_order_are_refused(messages):
    with pytest.raises(InputError, match="user, assistant"):
        PromptTemplate.load("kullm-2023").render(messages)


def test_unknown_and_broken_templates(tmp_path):
    with pytest.raises(RecipeError, match=r"'nope' - use one of kullm-2023, kullm-v2"):
        PromptTemplate.load("nope")
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% if %}")
    with pytest.raises(RecipeError, match=r"not a valid Jinja template \(line 1: "):
        PromptTemplate.load(str(broken))


def test_a_template_that_rewrites_earlier_turns_is_refused():
    shrinking = PromptTemplate("shrinking", "{{ messages | length }}{{ messages[-1]['content'] }}")
    with pytest.raises(RecipeError, match="changes the text of earlier turns"):
        shrinking.segments(record("", HISTORY))


def test_markup_in_a_row_is_text():
    text = PromptTemplate.load("kullm-2023").text(
        Record("d", "x", "{{ 7 * 7 }} {% raw %}", "{{ cycler.__init__ }}", "답")
    )
    assert "{{ 7 * 7 }} {% raw %}" in text
    assert "{{ cycler.__init__ }}" in text
