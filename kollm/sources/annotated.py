"""Korean data that people annotated, put into instructions by task templates: KorQuAD, AI-Hub and KISTI, as komt does.

Four forms of rows are known, by their keys: reading comprehension, summaries, parallel sentences and labelled text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kollm.recipe.task import load_task
from kollm.sources.rows import list_items, local_rows
from kollm.sources.source import Adapted, Place, Row, Source, as_text, check

LANGUAGES = {"ko": "한국어", "en": "영어"}


class Annotation(NamedTuple):
    """What a row says: a task of templates/tasks, its fields, and what tells it from others of the same row."""

    task: str
    values: dict[str, str]
    suffix: str = ""


def read(path: Path) -> Iterator[Row]:
    """Yield the annotated rows of a file: of a list, its items; of the nested forms, the innermost ones.

    Raises:
        InputError: a JSON file of no known form.
    """
    if path.suffix != ".json":
        yield from local_rows(path)
        return
    for item in list_items(path, "data", "documents"):
        if isinstance(item, dict) and isinstance(item.get("paragraphs"), list):
            yield from _questions(item)
        else:
            yield item if isinstance(item, dict) else {"row": item}


def adapt(row: Row, place: Place) -> Adapted:
    """One Record for each annotation that the row holds, in a phrasing chosen by its id."""
    found = read_annotations(row)
    if not found:
        return place.reject(row, "no_known_annotation")
    own_id = next((str(row[key]) for key in ("id", "sn", "doc_id") if row.get(key)), str(place.index))
    parts = []
    for task, values, suffix in found:
        rendered = load_task(task).render(values, f"{own_id}{suffix}")
        if not rendered:
            parts.append(place.reject(row, "no_answer"))
            continue
        instruction, input, output, _ = rendered[0]
        parts.append(check(place.record(f"{own_id}{suffix}", instruction, input, output, category=task)))
    return Adapted(
        tuple(record for part in parts for record in part.records),
        tuple(rejected for part in parts for rejected in part.rejected),
    )


def _questions(article: Mapping[str, Any]) -> Iterator[Row]:
    """The questions of an article in SQuAD's nested form, flat."""
    for paragraph in _objects(article["paragraphs"]):
        for question in _objects(paragraph.get("qas")):
            yield {"title": article.get("title"), "context": paragraph.get("context"), **question}


def read_annotations(row: Row) -> list[Annotation]:
    """What a row of one of the known forms says; nothing for other rows."""
    if not isinstance(row, Mapping):
        return []
    if "context" in row and "question" in row:
        values = _texts({"context": row["context"], "question": row["question"], "title": row.get("title")})
        return [Annotation("reading_comprehension", {**values, "answer": _answer(row)})]
    if isinstance(row.get("abstractive"), Sequence):
        summary = "\n".join(item for item in row["abstractive"] if isinstance(item, str))
        values = _texts({"document": _sentences(row.get("text")), "summary": summary, "title": row.get("title")})
        return [Annotation("summarization", values)]
    if "summary_entire" in row or "summary_section" in row:
        return list(_paper_summaries(row))
    if "ko" in row and "en" in row:
        source, target = ("en", "ko") if row.get("source_language") == "en" else ("ko", "en")
        values = _texts({"source": row[source], "target": row[target]})
        languages = {"source_language": LANGUAGES[source], "target_language": LANGUAGES[target]}
        return [Annotation("translation", {**values, **languages})]
    for text, label in (("text", "label"), ("sentence", "tag"), ("sentence", "label")):
        if text in row and label in row:
            return [Annotation("classification", _texts({"text": row[text], "label": row[label]}))]
    return []


def _paper_summaries(row: Row) -> Iterator[Annotation]:
    """Summaries of a paper: of all of it, and of its sections. The key `orginal_text` is spelt so in the data."""
    for part in ("summary_entire", "summary_section"):
        for number, item in enumerate(_objects(row.get(part)), start=1):
            values = {"document": item.get("orginal_text"), "summary": item.get("summary_text")}
            yield Annotation("summarization", _texts(values), f"-{part.removeprefix('summary_')}-{number}")


def _answer(row: Row) -> str:
    """The first answer: `answers` is a list of objects in the files, an object of lists on the Hub."""
    if row.get("is_impossible"):
        return ""
    answers = row.get("answers", row.get("answer"))
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if isinstance(answers, Sequence) and not isinstance(answers, str):
        answers = answers[0] if answers else ""
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    return as_text(answers) or ""


def _sentences(text: object) -> str:
    """A document in sentences: a list of paragraphs, each a list of `{index, sentence}`; or text as it is."""
    if not isinstance(text, Sequence) or isinstance(text, str):
        return as_text(text) or ""
    paragraphs = [_objects([part] if isinstance(part, Mapping) else part) for part in text]
    return "\n".join(" ".join(str(item.get("sentence", "")).strip() for item in part) for part in paragraphs)


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing else in the files is one."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: (as_text(value) or "").strip() for name, value in values.items()}


KORQUAD = Source(
    name="korquad",
    title="KorQuAD 1.0",
    licence="CC-BY-ND-4.0",
    adapt=adapt,
    hub_id="KorQuAD/squad_kor_v1",
    revision="01aad23853355e5f4f6317eeaaa8186811424834",
    hub_files="squad_kor_v1/train-*.parquet",
    lang="ko",
    read=read,
    terms="No derivatives may be passed on (the project's page says CC BY-ND 2.0 KR, the Hub's card CC-BY-ND-4.0): "
    "rows in a template are for training of your own, not for publishing.",
)
AI_HUB = Source(
    name="ai_hub",
    title="AI-Hub",
    licence="LicenseRef-AI-Hub-terms",
    adapt=adapt,
    hub_id="",
    revision="",
    lang="ko",
    read=read,
    terms="AI-Hub gives its files to people in Korea who agree to its terms, and they may not be passed on. Name the "
    "file that you got with --input.",
)
KISTI = Source(
    name="kisti",
    title="KISTI AIDA",
    licence="LicenseRef-KISTI-terms",
    adapt=adapt,
    hub_id="",
    revision="",
    lang="ko",
    read=read,
    terms="KISTI gives its files to people who agree to its terms. Name the file that you got with --input.",
)
