"""The page in a real browser, at desktop and phone width: what a reader sees, and that nothing in an answer runs."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from kollm.report import write_report
from kollm.report.samples import BLOCK
from tests.report.browser import Tab, browser
from tests.report.fabricate import make_work_folder

pytestmark = pytest.mark.browser

WIDTHS = (1280, 390)
ANSWERS = 2 * BLOCK + 24
BLOCKS = 3
HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'><svg onload='window.pwned = 3'>"
    '"><iframe src="javascript:parent.pwned=4"></iframe><style>body{display:none}</style><!-- {{ 7 * 7 }} ${pwned} '
    '</div></article><a href="javascript:alert(1)">눌러 보세요</a> ]]> \u2028 \ud800 \x00 <base href="http://127.0.0.1:9/">'
)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs by two rubrics, one a toy, with long names and hostile answers."""
    folder = tmp_path_factory.mktemp("reports")
    hostile = {("adapter", 0): HOSTILE, ("adapter", 7): "x" * 3000 + "가" * 3000, ("base", 1): HOSTILE * 3}
    first = make_work_folder(folder / "run", tasks=BLOCK, toy=True, answers=hostile)
    systems = {"<b>굵은</b> 이름": 0.5, "a-very-long-system-name-without-any-space-at-all-" * 2: 0.6}
    second = make_work_folder(folder / "run-<i>2</i>", tasks=12, systems=systems, rubric="kullm3", failures=0.5)
    return write_report([first, second], folder / "report.html")


@pytest.fixture(scope="module")
def two_judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two models judged."""
    folder, systems = tmp_path_factory.mktemp("judges"), {"gpt-5.4": 0.8, "base": 0.4}
    first = make_work_folder(folder / "run", tasks=12, systems=systems)
    second = make_work_folder(folder / "other", tasks=12, systems=systems, model="claude-5")
    return write_report([first, second / "verdicts.jsonl"], folder / "report.html")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_fits_quietly_and_asks_nobody(tab: Tab, page: Path, width: int, dark: bool) -> None:
    tab.messages.clear()
    tab.requests.clear()
    tab.open(page, width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    beyond = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll') && !e.closest('pre')"
    assert (
        tab.run(f"[...document.querySelectorAll('main *')].filter({beyond}).map(e => e.outerHTML.slice(0, 200))") == []
    )
    assert tab.messages == []
    assert {address.split(":")[0] for address in tab.requests} <= {"file", "data"}
    assert sum(address.startswith("file") for address in tab.requests) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_answers_are_text(tab: Tab, page: Path, width: int) -> None:
    tab.messages.clear()
    tab.open(page, width)
    shown = "[...document.querySelectorAll('.field.response .text')].map(e => e.textContent)"
    assert any(HOSTILE[:60] in text for text in tab.run(shown))
    assert tab.run("typeof window.pwned") == "undefined"
    assert tab.run("document.querySelectorAll('img, iframe, base, .sample a, .sample script, b > b').length") == 0
    assert tab.run("document.scripts.length") == 2 + BLOCKS + 1  # labels, index, blocks, and page.js
    assert tab.dialogs == [] and tab.messages == []
    assert "<b>굵은</b> 이름" in tab.run("document.querySelector('main').textContent")


def test_the_policy_refuses_what_escaping_would_have_let_through(tab: Tab, page: Path, tmp_path: Path) -> None:
    """A second wall: markup injected into the file itself does not run."""
    broken = tmp_path / "report.html"
    inject = "<script>window.pwned = 1</script><img src='http://127.0.0.1:9/x' onerror='window.pwned = 2'>"
    broken.write_text(page.read_text().replace("<main", inject + "<main", 1))
    tab.requests.clear()
    tab.open(broken, WIDTHS[0])
    assert tab.run("typeof window.pwned") == "undefined"
    assert len([text for text in tab.messages if "Content Security Policy" in text]) >= 2
    tab.messages.clear()


def _choose(tab: Tab, id: str, value: str, event: str = "change") -> None:
    tab.run(
        f"(() => {{ const e = document.getElementById('{id}'); e.value = '{value}';"
        f" e.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_filter_search_sort_and_more(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width)
    count = "document.getElementById('count').textContent"
    cards = "document.querySelectorAll('.sample').length"
    assert tab.run(cards) == 20
    tab.run("document.getElementById('more').click()")
    tab.wait(f"{cards} === 40")
    _choose(tab, "system", "1")
    tab.wait(f"{count}.includes('/ {BLOCK}')")
    names = "[...new Set([...document.querySelectorAll('.sample .system')].map(e => e.textContent))]"
    assert tab.run(names) == ["base"]
    _choose(tab, "system", "")
    _choose(tab, "query", "눌러 보세요", "input")
    tab.wait(f"{count}.endsWith(' 2 / {ANSWERS}')")
    assert tab.run(cards) == 2
    _choose(tab, "query", "", "input")
    _choose(tab, "flag", "2")
    tab.wait(f"{cards} > 0 && {cards} <= 20 && !{count}.includes(' 2 /')")
    flagged = "[...document.querySelectorAll('.sample')].every(e => e.querySelector('header').textContent.includes('한글 없음'))"
    assert tab.run(flagged)
    _choose(tab, "flag", "")
    _choose(tab, "sort", "5:down")
    tab.wait(f"{cards} === 20")
    best = "[...document.querySelectorAll('.sample')].map(e => e.querySelector('.score-list div:nth-child(6) dd').textContent)"
    scores = [float(text) for text in tab.run(best)]
    assert scores == sorted(scores, reverse=True) and scores[0] == 5
    _choose(tab, "sort", "")
    _choose(tab, "query", "이런 말은 어디에도 없다", "input")
    tab.wait(f"{count}.endsWith(' 0 / {ANSWERS}')")
    assert tab.messages == []


@pytest.mark.parametrize(
    ("language", "other"), [("english", "[가-힣]"), ("korean", "shown|by task|Radar|Bars|Scores|Coherence")]
)
@pytest.mark.parametrize("width", WIDTHS)
def test_one_language_at_a_time_figures_and_choices_included(
    tab: Tab, two_judges: Path, width: int, language: str, other: str
) -> None:
    """What the page itself says; names, answers and the names of the languages are as they are."""
    tab.open(two_judges, width)
    tab.run(f"document.getElementById('{language}').click()")
    seen = """(pattern => { const found = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) { const node = walk.currentNode, around = document.createRange(); around.selectNodeContents(node);
        const apart = node.parentElement.closest('script, style, .languages, .field, .raw, .origin, code, .settings');
        const title = node.parentElement.closest('title, option'), shown = title || around.getClientRects().length;
        if (!apart && shown && pattern.test(node.textContent)) found.push(node.textContent); }
      for (const node of document.querySelectorAll('[aria-label]'))
        if (pattern.test(node.getAttribute('aria-label'))) found.push(node.getAttribute('aria-label'));
      for (const node of document.querySelectorAll('.stack td[data-label]'))
        if (pattern.test(getComputedStyle(node, '::before').content)) found.push(getComputedStyle(node, '::before').content);
      return found; })"""
    assert [text for text in tab.run(f"{seen}(/{other}/)") if "<b>" not in text] == []  # a row's own words in the run
    assert tab.run("document.documentElement.lang") == language[:2]
    assert tab.run("document.querySelectorAll('svg text.label').length") > 20


def test_the_embedded_font_draws_korean(tab: Tab, page: Path) -> None:
    tab.open(page, WIDTHS[0])
    tab.run("document.fonts.load('16px \"Kollm Gothic\"', '이해 가능성').then(() => true)")
    assert tab.run("[...document.fonts].map(f => f.status)") == ["loaded"]
    assert tab.run("document.fonts.check('16px \"Kollm Gothic\"', '뷁')")


def test_keyboard_reaches_tables_and_filters(tab: Tab, page: Path) -> None:
    tab.open(page, WIDTHS[1])
    assert tab.run(
        "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.getAttribute('aria-label'))"
    )
    assert tab.run(
        "[...document.querySelectorAll('.filters input, .filters select')].every(e => e.labels.length === 1)"
    )
    assert tab.run("[...document.querySelectorAll('svg')].every(e => e.querySelector('title').textContent.length > 3)")
    assert tab.run(
        "[...document.querySelectorAll('button, input, select')].every(e => e.offsetHeight >= 40 || e.hidden)"
    )
    headings = tab.run("[...document.querySelectorAll('h1, h2, h3, h4')].map(e => Number(e.tagName[1]))")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in pairwise(headings))


def test_a_local_judges_table_shows_its_last_axis_without_scrolling(tab: Tab, tmp_path: Path) -> None:
    """What probability the scores received stands under each mean, and may not push the overall quality out of sight."""
    folder = make_work_folder(tmp_path / "run", tasks=3, mode="local")
    path = folder / "verdicts.jsonl"
    verdicts = [json.loads(line) for line in path.read_text().splitlines()]
    for verdict in verdicts:
        verdict["usage"]["mass"] = dict.fromkeys(verdict["scores"], 0.00084)
    path.write_text("".join(json.dumps(verdict) + "\n" for verdict in verdicts))
    page = write_report([folder], tmp_path / "report.html")
    for width in WIDTHS:
        tab.open(page, width)
        assert tab.run("document.querySelectorAll('.scores .mass.low').length") == 12
        assert tab.run("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.scores').parentElement)")
