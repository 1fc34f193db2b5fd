"""Templates of others end in time, in memory and in one sentence, and write what transformers writes."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
from pathlib import Path

import pytest
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from kollm.core import rendering
from kollm.core.errors import InputError, RecipeError
from kollm.core.rendering import ForeignTemplate, render_foreign
from kollm.recipe.prompt import PromptTemplate

MESSAGES = [{"role": "user", "content": "안녕 <b>😀"}, {"role": "assistant", "content": "네\n\n"}]
LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
BOMBS = {
    "memory": "{{ 'x' * 10**10 }}",
    "format": "{{ '%9999999999d' % 1 }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "output": "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "loop": LOOP,
}


@pytest.fixture(autouse=True)
def a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.25)


def process() -> subprocess.Popen[bytes]:
    assert rendering._renderer.process is not None
    return rendering._renderer.process


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match=r"it takes more than|it writes more than|calls itself|unsafe"):
        render_foreign(BOMBS[name], {"messages": []})


def test_the_process_goes_on_after_a_refusal_and_anew_after_a_bomb() -> None:
    template = "{% if n == 1 %}{{ raise_exception('no') }}{% elif n == 2 %}" + LOOP + "{% endif %}{{ n }}"
    assert render_foreign(template, {"n": 0}).text == "0"
    with pytest.raises(InputError, match="no"):
        render_foreign(template, {"n": 1})
    before = process()
    assert render_foreign(template, {"n": 0}).text == "0" and process() is before
    with pytest.raises(InputError, match="it takes more than"):
        render_foreign(template, {"n": 2})
    assert before.poll() == -signal.SIGVTALRM and rendering._renderer.process is None
    assert render_foreign(template, {"n": 0}).text == "0"
    os.kill(process().pid, signal.SIGKILL)
    with pytest.raises(InputError):
        render_foreign(template, {"n": 0})
    assert render_foreign(template, {"n": 0}).text == "0"


def test_an_interrupted_question_leaves_no_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    assert render_foreign("{{ n }}", {"n": 1}).text == "1"
    with monkeypatch.context() as patch:
        patch.setattr(select, "poll", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render_foreign("{{ n }}", {"n": 2})
    assert render_foreign("{{ n }}", {"n": 3}).text == "3"


def test_all_templates_share_a_process_that_keeps_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rendering._renderer.close()
    monkeypatch.setattr(rendering, "MOST_TEMPLATES", 3)
    for number in range(3):
        rendering.check_foreign(f"{number}")
    first = process()
    assert [render_foreign(f"{number}", {}).text for number in range(3)] == ["0", "1", "2"] and process() is first
    assert render_foreign("3", {}).text == "3" and process() is not first
    assert first.poll() == -signal.SIGKILL


def test_a_fork_leaves_the_process_to_its_owner() -> None:
    assert render_foreign("{{ n }}", {"n": 1}).text == "1"
    owned = process()
    forked = os.fork()
    if not forked:
        rendered = render_foreign("{{ n }}", {"n": 3}).text  # in a process of its own, which ends with it
        own = process()
        rendering._renderer.close()
        os._exit(0 if rendered == "3" and own.pid != owned.pid and own.poll() == -signal.SIGKILL else 1)
    assert os.waitpid(forked, 0)[1] == 0
    assert render_foreign("{{ n }}", {"n": 2}).text == "2" and process() is owned


def test_a_process_with_many_open_files_renders() -> None:
    rendering._renderer.close()
    least = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2 * least), hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(least)]
    try:
        assert render_foreign("{{ n }}", {"n": 1}).text == "1"
        output = process().stdout
        assert output is not None and output.fileno() > 1024
        rendering._renderer.close()
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", PromptTemplate.names())
def test_it_writes_what_transformers_writes(name: str) -> None:
    template = PromptTemplate.load(name).chat_template
    values = {"messages": MESSAGES, "eos_token": "</s>", "bos_token": "<s>", "add_generation_prompt": True}
    own = chat_template_utils._cached_compile_jinja_template(template).render(**values)
    assert render_foreign(template, values).text == own == ForeignTemplate(template).render(**values)


def test_marks_stand_where_transformers_has_them() -> None:
    template = "{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endfor %}"
    values = {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": False}
    found = [
        chat_template_utils._render_with_assistant_indices(compiled, **values)
        for compiled in (chat_template_utils._cached_compile_jinja_template(template), ForeignTemplate(template))
    ]
    assert found[0] == found[1]
    assert [found[0][0][start:end] for start, end in found[0][1]] == [m["content"] for m in MESSAGES]


def test_a_users_template_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ 'x' * 10**10 }}", encoding="utf-8")
    with pytest.raises(InputError, match="it takes more than"):
        PromptTemplate.load(str(path)).prompt("질문입니다")
    path.write_text("{% for %}", encoding="utf-8")
    with pytest.raises(RecipeError, match="line 1"):
        PromptTemplate.load(str(path))
    path.write_text("{{ messages[0].content * 10**9 }}", encoding="utf-8")
    with pytest.raises(InputError, match="it takes more than"):
        PromptTemplate.load(str(path)).prompt("질문입니다")


def test_transformers_finds_the_bounded_one(tmp_path: Path) -> None:
    from kollm.services.local_model import LocalModel, load_tokenizer
    from kollm.train.toy import train_tokenizer

    tokenizer = train_tokenizer(["안녕하세요"], 300)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + LOOP + "{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(LocalModel(tmp_path, "x"))
    with pytest.raises(TemplateError, match="it takes more than"):
        loaded.apply_chat_template(MESSAGES, tokenize=False)
