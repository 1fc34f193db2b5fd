"""Line structure through a translator that joins lines, as DeepL's next-generation models do:

    python -m benchmarks.lines ALPACA_ROWS.json

The rows go through `translate_stream` and the real DeepL client to the loopback server, which joins the lines of a text.
Beside it the same rows as they were sent before: a field as one text with bare line breaks, structure as placeholders.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from kollm.core.records import Record
from kollm.services.ledger import Ledger
from kollm.sources import read_source
from kollm.translate import translate_stream
from kollm.translate.deepl import DeepLTranslator
from kollm.translate.lines import changed_lines
from kollm.translate.masking import escape, visible_length
from kollm.translate.structure import structure_spans
from kollm.translate.translator import encoded_size
from tests.servers.deepl import KEY, DeepLServer, pseudo_korean


class Sent(NamedTuple):
    """A field as it was sent before: one text, its structure as placeholders."""

    markup: str
    originals: list[str]


def whole_field(text: str, first: int) -> Sent:
    parts, originals, position = [], list[str](), 0
    for start, end in structure_spans(text):
        parts += [escape(text[position:start]), f'<x id="{first + len(originals)}"/>']
        originals.append(text[start:end])
        position = end
    return Sent("".join([*parts, escape(text[position:])]), originals)


def before(records: list[Record]) -> None:
    """What the rows cost and became as whole fields."""
    characters, requests, texts, size, equal = 0, 1, 0, 0, 0
    limits = DeepLTranslator(KEY, "http://127.0.0.1:9").limits
    for record in records:
        first, body, same = 0, "", True
        for number, text in enumerate(text for text in record.texts().values() if text.strip()):
            sent = whole_field(text, first)
            first += len(sent.originals)
            body += f'<t n="{number}">{sent.markup}</t>'
            answer = re.sub(r'<x id="(\d+)"/>', lambda match: "\0" + match[1] + "\0", pseudo_korean(sent.markup))
            pieces = answer.split("\0")
            restored = "".join(
                sent.originals[int(piece) - first + len(sent.originals)] if place % 2 else piece
                for place, piece in enumerate(pieces)
            )
            same = same and not changed_lines(
                text, restored.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
            )
        document = f"<d>{body}</d>"
        characters += visible_length(document)
        texts, size = texts + 1, size + encoded_size(document)
        if texts > limits.batch_texts or size > limits.batch_bytes:
            requests, texts, size = requests + 1, 1, encoded_size(document)
        equal += same
    print(
        f"whole fields: {characters:,} characters, {requests} requests, line structure equal in {equal:,} of {len(records):,} rows"
    )


def after(records: list[Record]) -> None:
    """What they cost and become as lines."""
    with DeepLServer() as server, tempfile.TemporaryDirectory() as folder:
        engine = DeepLTranslator(KEY, server.url, requests_per_second=1000.0)
        engine.limits = dataclasses.replace(engine.limits, workers=4)
        started = time.process_time()
        with Ledger.open(Path(folder) / "ledger.sqlite3") as ledger:
            outcomes = list(translate_stream(records, engine, ledger=ledger))
        seconds = time.process_time() - started
        kept = [item.record for item in outcomes if item.reason is None]
        equal = sum(
            not any(changed_lines(text, record.texts()[name]) for name, text in record.english().texts().items())
            for record in kept
        )
        print(
            f"as lines: {server.state.used:,} characters, {len(server.state.requests)} requests, line structure equal in "
            f"{equal:,} of {len(kept):,} kept rows, {len(outcomes) - len(kept)} rejected; {seconds:.1f} s of processor, server included"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="a JSON list in Alpaca's form")
    options = parser.parse_args()
    records = [row for row in read_source("gpt4_llm", options.rows) if isinstance(row, Record)]
    broken = sum(any("\n" in text.strip() for text in record.texts().values()) for record in records)
    print(
        f"{len(records):,} rows of {len(json.loads(options.rows.read_text('utf-8'))):,}, {broken:,} with a line break"
    )
    before(records)
    after(records)


if __name__ == "__main__":
    main()
