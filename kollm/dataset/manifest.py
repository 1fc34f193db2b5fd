"""What a build says of itself: the manifest and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kollm.core.files import file_sha256
from kollm.core.version import __version__
from kollm.dataset.build import Inputs
from kollm.dataset.card import CardPart, render_card
from kollm.dataset.folder import REJECTED, Part, dataset_fingerprint
from kollm.dataset.settings import Engines, SourceInput, Tally
from kollm.dataset.work import code_fingerprint
from kollm.quality.review import review_sha256
from kollm.recipe.engines import ENGINES
from kollm.recipe.schema import BuildSettings
from kollm.sources import SAMPLE, is_local


def describe(inputs: Inputs, engines: Engines, settings: BuildSettings) -> dict[str, Any]:
    """What decides the result of a build: by it a build that was cut off is known again."""
    return {
        "sources": [
            {
                "name": item.name,
                "from": _origin(item),
                "revision": opened.place.revision,
                "limit": item.limit,
                "own": repr(item.own.options) + repr(item.own.form) if item.own is not None else "",
                "translation": engines.translation(item),
                "engine": engines.about(item),
            }
            for item, opened in zip(inputs.items, inputs.opened, strict=True)
        ],
        "settings": _settings(settings),
        "rival": inputs.rival,
        "code": code_fingerprint(),
    }


def _settings(settings: BuildSettings) -> dict[str, Any]:
    return {
        **settings.model_dump(),
        "against": [reference_name(name) for name in settings.against],
        "corrections": review_sha256(Path(settings.corrections)) if settings.corrections else "",
    }


def make_manifest(
    inputs: Sequence[SourceInput], translator: str, settings: BuildSettings, tally: Tally, rows: Mapping[Part, int]
) -> dict[str, Any]:
    """Sources, settings and counts; nothing in it depends on when or where the build ran."""
    facts = ENGINES.get(translator)
    return {
        "kollm": __version__,
        "sources": [
            {
                "name": item.name,
                "from": _origin(item),
                "revision": tally.revisions[item.name],
                "rows": tally.records[item.name],
                **({"limit": item.limit} if item.limit is not None else {}),
                **({"form": item.own.form.title, "columns": dict(item.own.form.columns)} if item.own else {}),
            }
            for item in inputs
        ],
        "translator": {"name": translator, "terms": facts.terms if facts else ""},
        "settings": _settings(settings),
        "filters": settings.filters,
        "turns": settings.turns,
        "mode": settings.mode,
        "rows": {part.config: count for part, count in sorted(rows.items()) if part.config != REJECTED},
        "dropped": dict(sorted(tally.dropped.items())),
        "mended": dict(sorted(tally.mended.items())),
        "flags": {name: count for name, count in sorted(tally.flags.items()) if count},
        "leaks": tally.leaks,
        "characters": tally.characters,
    }


def make_card(
    inputs: Sequence[SourceInput], manifest: Mapping[str, Any], tally: Tally, rows: Mapping[Part, int]
) -> str:
    """The card: what is in the dataset, under which licences and terms, and what was left out."""
    described = zip((item.source for item in inputs), manifest["sources"], strict=True)
    sources = {source.config: (source, item) for source, item in described}
    translated = manifest["translator"]["name"] != "none"
    languages = {"ko" if translated else source.lang for source, _ in sources.values()}
    if manifest["settings"]["keep_english"]:
        languages.add("en")
    parts = []
    for part in sorted(rows, key=lambda part: (part.config == REJECTED, part)):
        licences = tuple(sorted(tally.licences[part]))
        if part.config == REJECTED:
            parts.append(CardPart(*part, rows[part], "rows left out, with their reason", "", licences, ""))
            continue
        source, item = sources[part.config]
        terms = source.terms if item["from"] != "sample" else ""
        origin = f"{item['from']} at `{item['revision']}`"
        parts.append(CardPart(*part, rows[part], source.title, origin, licences, terms))
    names = ", ".join(source.title for source, _ in sources.values())
    title = f"{names} in Korean" if translated and any(s.lang != "ko" for s, _ in sources.values()) else names
    return render_card(title, parts, manifest, sorted(languages, reverse=True))


def reference_name(name: str) -> str:
    """An evaluation set by its name, or by its content where it is of this machine."""
    path = Path(name)
    if path.is_file():
        return file_sha256(path)
    return dataset_fingerprint(path) if path.is_dir() else name


def _origin(item: SourceInput) -> str:
    """Hub id, `sample`, or `local file`: a path of this machine says nothing to a reader elsewhere."""
    if item.input is None:
        return item.source.hub_id
    if item.input == SAMPLE or not is_local(item.input):
        return str(item.input)
    return "local file"
