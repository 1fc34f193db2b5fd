"""HTML of shared conversations back to markdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kollm.sources.html import is_html, to_markdown

PAGE = (
    '<div class="markdown prose w-full break-words dark"><p>Use <code>x &lt; 3</code> and <strong>this</strong>:</p>'
    '<pre><div class="bg-black"><div><span>python</span><button><svg><path></path></svg>Copy code</button></div>'
    '<div><code class="hljs language-python"><span class="hljs-keyword">def</span> f(x):\n    <span>return</span> x\n'
    "</code></div></div></pre></div>"
)


def test_code_keeps_its_indentation_and_language_and_loses_the_button() -> None:
    assert to_markdown(PAGE) == "Use `x < 3` and **this**:\n\n```python\ndef f(x):\n    return x\n```"


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<ol><li><p>one</p></li><li>two<ul><li>a</li><li>b</li></ul></li></ol>", "1. one\n2. two\n   - a\n   - b"),
        ('<ol start="3"><li>third</li></ol>', "3. third"),
        ("<h2>Head</h2><p>a<br>b</p><hr>", "## Head\n\na\nb\n\n---"),
        ('<p>see <a href="https://x.org">here</a></p>', "see [here](https://x.org)"),
        ("<blockquote><p>q1</p><p>q2</p></blockquote>", "> q1\n>\n> q2"),
        (
            "<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2|3</td></tr></tbody></table>",
            "| A | B |\n| --- | --- |\n| 1 | 2\\|3 |",
        ),
        (
            '<p>so <span class="katex"><span><math><mi>E</mi><annotation encoding="application/x-tex">E=mc^2</annotation>'
            '</math></span><span class="katex-html"><span>E=mc2</span></span></span>.</p>',
            "so $E=mc^2$.",
        ),
        ("<p>unclosed <ul><li>y", "unclosed\n\n- y"),
    ],
)
def test_each_kind_of_block(html: str, markdown: str) -> None:
    assert to_markdown(html) == markdown


def test_only_pages_are_taken_for_html() -> None:
    assert is_html(PAGE)
    assert is_html("<p>one</p><p>two</p>")
    assert not is_html("Use <p>text</p>.")
    assert not is_html('<div id="app"></div>')
    assert not is_html("```html\n<p>one</p>\n```")


@given(st.text(st.sampled_from("<>/pliuoacdetrhb &;\"'=\n1"), max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(to_markdown(text), str)
