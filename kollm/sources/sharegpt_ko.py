"""KoVicuna's ShareGPT: the conversations of ShareGPT translated by DeepL, in ShareGPT's own form.

KORani's Korean half is the first exchange of each: `kollm data build sharegpt_ko --turns first`.
"""

from __future__ import annotations

from kollm.sources.sharegpt import adapt
from kollm.sources.source import Source

SHAREGPT_KO = Source(
    name="sharegpt_ko",
    title="ShareGPT DeepL-Ko (KoVicuna)",
    licence="LicenseRef-OpenAI-terms",
    adapt=adapt,
    hub_id="junelee/sharegpt_deepl_ko",
    revision="3dd21720e1b7a1f480d14d333f5e06e7cfad8ba2",
    hub_files="ko_dataset_2.json",
    lang="ko",
    personal=True,
    terms="The card names no licence: conversations that people shared with ChatGPT's answers, translated by DeepL.",
)
