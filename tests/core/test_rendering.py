"""Templates of others end in time, in memory and in one sentence, and write what transformers writes."""

from __future__ import annotations

import gc
import os
import resource
import signal
from pathlib import Path

import pytest
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from kollm.core import rendering
from kollm.core.errors import InputError, RecipeError
from kollm.core.rendering import ForeignTemplate, Renderer, render_foreign
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


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.5)
    renderer = Renderer(BOMBS[name])
    with pytest.raises(InputError, match=r"it takes more than|it writes more than|calls itself|unsafe"):
        renderer.render({"messages": []})
    renderer.close()


def test_the_process_goes_on_after_a_refusal_and_anew_after_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.5)
    renderer = Renderer("{% if n == 1 %}{{ raise_exception('no') }}{% elif n == 2 %}" + LOOP + "{% endif %}{{ n }}")
    for _ in range(2):
        assert renderer.render({"n": 0}).text == "0"
        with pytest.raises(InputError, match="no"):
            renderer.render({"n": 1})
        with pytest.raises(InputError, match="it takes more than"):
            renderer.render({"n": 2})
    assert renderer._child is None
    renderer.render({"n": 0})
    os.kill(renderer._child.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(InputError):
        renderer.render({"n": 0})
    renderer.close()


def test_many_templates_leave_no_process_behind() -> None:
    renderers = [rendering._renderer(f"{number}", os.getpid()) for number in range(2)]
    children = []
    for renderer in renderers:
        renderer.check()
        assert renderer._child is not None
        children.append(renderer._child)
    del renderer, renderers
    for number in range(2, 6):
        rendering._renderer(f"{number}", os.getpid())  # four are kept, so that these push the two out
    gc.collect()
    assert [child.poll() for child in children] == [-signal.SIGKILL] * 2


def test_a_fork_leaves_the_process_to_its_owner() -> None:
    renderer = Renderer("{{ n }}")
    assert renderer.render({"n": 1}).text == "1"
    forked = os.fork()
    if not forked:
        renderer.close()
        rendered = renderer.render({"n": 3}).text  # in a process of its own, which ends with it
        child = renderer._child
        renderer.close()
        os._exit(0 if rendered == "3" and child is not None and child.poll() == -signal.SIGKILL else 1)
    assert os.waitpid(forked, 0)[1] == 0
    assert renderer.render({"n": 2}).text == "2"
    renderer.close()


def test_a_process_with_many_open_files_renders() -> None:
    least = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2 * least), hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(least)]
    try:
        renderer = Renderer("{{ n }}")
        assert renderer.render({"n": 1}).text == "1"
        assert renderer._child is not None and renderer._child.stdout is not None
        assert renderer._child.stdout.fileno() > 1024
        renderer.close()
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


def test_transformers_finds_the_bounded_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kollm.services.local_model import LocalModel, load_tokenizer
    from kollm.train.toy import train_tokenizer

    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.5)
    tokenizer = train_tokenizer(["안녕하세요"], 300)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + LOOP + "{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(LocalModel(tmp_path, "x"))
    with pytest.raises(TemplateError, match="it takes more than"):
        loaded.apply_chat_template(MESSAGES, tokenize=False)
