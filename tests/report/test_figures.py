"""Figures as geometry: a bar as long as its mean, a radar corner as far out as its score, and names that fit."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from fontTools.ttLib import TTFont

from kollm.report import figures, words
from kollm.report.folder import gather, read_work_folder
from kollm.report.render import PAGE
from kollm.report.summary import summarize
from tests.report.fabricate import make_work_folder


@pytest.fixture
def judging(tmp_path: Path) -> dict[str, Any]:
    read = [read_work_folder(make_work_folder(tmp_path / "run", tasks=40, failures=0.2))]
    found: dict[str, Any] = summarize(read, gather(read))["judgings"][0]
    return found


def _elements(svg: str, tag: str, style: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter(tag) if style in (e.get("class") or "").split()]


def test_bars_are_as_long_as_their_means(judging: dict[str, Any]) -> None:
    axis = next(axis for axis in judging["axes"] if axis["key"] == "overall_quality")
    drawn = _elements(figures.bars(judging, axis), "rect", "bar")
    means = [system["axes"]["overall_quality"]["mean"] for system in judging["systems"]]
    means += [row["scores"]["overall_quality"] for row in judging["published"]]
    widths = [float(bar.get("width") or 0) for bar in drawn]
    assert widths == pytest.approx([172 * (mean - 1) / 4 for mean in means], abs=0.06)
    assert sum("published" in (bar.get("class") or "") for bar in drawn) == len(judging["published"])


def test_a_distribution_fills_its_row_and_shows_the_unscored(judging: dict[str, Any]) -> None:
    svg = figures.distribution(judging, judging["axes"][0])
    widths = [float(rect.get("width") or 0) for rect in ET.fromstring(svg).iter("rect")]
    assert sum(widths) == pytest.approx(214 * 2, abs=0.5)
    assert _elements(svg, "rect", "unscored")


def test_radars_of_measured_and_published_systems(judging: dict[str, Any]) -> None:
    measured, published = figures.radars(judging)
    assert [shape.name for shape in measured.shapes] == ["adapter", "base"]
    assert [shape.name for shape in published.shapes] == ["GPT-3.5-turbo", "GPT-4", "KULLM 5.8B", "KULLM 12.8B"]
    corner = _elements(measured.picture, "circle", "s0")[0]
    mean = judging["systems"][0]["axes"]["understandability"]["mean"]
    assert 142 - float(corner.get("cy") or 0) == pytest.approx(100 * mean, abs=0.06)


def test_a_system_without_scores_is_named_and_not_drawn(judging: dict[str, Any]) -> None:
    for axis in judging["systems"][1]["axes"].values():
        axis.update(mean=None, ci95=None, n_scored=0, distribution=[])
    assert [shape.name for shape in figures.radars(judging)[0].shapes] == ["adapter"]
    assert "점수 없음" in figures.bars(judging, judging["axes"][0])


def test_curve_starts_at_the_loss_before() -> None:
    training = {
        "history": [{"step": 5, "loss": 2.0}, {"step": 10, "loss": 1.0}],
        "heldout": {"before": 3.0, "after": 1.5},
    }
    dots = _elements(figures.curve(training) or "", "circle", "dot")
    assert [(float(dot.get("cx") or 0), float(dot.get("cy") or 0)) for dot in dots] == [
        pytest.approx((40.0, 8 + 170 * 0.1 / 2.2), abs=0.06),
        pytest.approx((380.0, 8 + 170 * 1.6 / 2.2), abs=0.06),
    ]
    training |= {"evaluations": [{"step": 5, "loss": 1.9}, {"step": 8, "loss": 1.4}]}
    dots = _elements(figures.curve(training) or "", "circle", "dot")
    assert [float(dot.get("cx") or 0) for dot in dots] == [40.0, 210.0, 312.0, 380.0]
    training |= {"best_step": 8}  # whose loss is the one after training
    assert len(_elements(figures.curve(training) or "", "circle", "dot")) == 3
    assert figures.curve({}) is None
    assert figures.curve({"history": [{"step": 1, "loss": 2.0}]}) is None


def test_markup_in_names_stays_text(judging: dict[str, Any]) -> None:
    judging["systems"][0]["system"] = "<script>x"
    svg = figures.bars(judging, judging["axes"][0])
    assert "<script>x" in [text.text for text in ET.fromstring(svg).iter("text")]


def test_the_embedded_font_has_every_sign_of_the_page() -> None:
    cmap = TTFont(PAGE / "font" / "kollm-gothic.woff2").getBestCmap()
    texts = [(PAGE / "page.html.jinja").read_text(), (PAGE / "page.js").read_text()]
    texts += [Path(module.__file__ or "").read_text() for module in (words, figures)]
    missing = {sign for sign in "".join(texts) if sign > "\u007f" and ord(sign) not in cmap}
    assert missing == set()
    assert all(ord(sign) in cmap for sign in map(chr, range(0xAC00, 0xD7A4)))
    assert (PAGE / "font" / "kollm-gothic.woff2").stat().st_size < 500_000
    assert "SIL OPEN FONT LICENSE" in (PAGE / "font" / "OFL.txt").read_text()
