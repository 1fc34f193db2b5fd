"""KoAlpaca's two sets, Korean already: v1.0 is Alpaca translated and answered anew, v1.1 Naver's questions rewritten."""

from __future__ import annotations

from kollm.sources.source import Adapted, Place, Row, Source, adapt_single


def adapt(row: Row, place: Place) -> Adapted:
    """One Record; v1.1 has no `input`, and the `url` of its question is dropped."""
    return adapt_single(row, place)


KOALPACA_V1 = Source(
    name="koalpaca_v1",
    title="KoAlpaca v1.0",
    licence="CC-BY-NC-4.0",
    adapt=adapt,
    hub_id="Bingsu/ko_alpaca_data",
    revision="main",
    hub_files="data/train-*.parquet",
    lang="ko",
    terms="Instructions translated by DeepL, answers by gpt-3.5-turbo; OpenAI's terms of use apply to the answers.",
)
KOALPACA_V1_1 = Source(
    name="koalpaca_v1_1",
    title="KoAlpaca v1.1a",
    licence="LicenseRef-none-given",
    adapt=adapt,
    hub_id="beomi/KoAlpaca-v1.1a",
    revision="main",
    hub_files="data/train-*.parquet",
    lang="ko",
    personal=True,
    terms="Questions from Naver's Q&A site rewritten by an OpenAI model; the card names no licence.",
)
