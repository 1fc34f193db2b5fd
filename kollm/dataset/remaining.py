"""What is left to translate before anything is bought: rows and characters of the shards that no earlier purchase covers."""

from __future__ import annotations

from typing import NamedTuple

from kollm.core.records import Record
from kollm.dataset.build import Build
from kollm.dataset.decide import read_summary, write_summary
from kollm.dataset.tasks import kept_records
from kollm.translate.masking import make_document, visible_length
from kollm.translate.routing import Router


class Remaining(NamedTuple):
    """What is left after duplicates and leaks.

    Attributes:
        rows: rows that are kept so far.
        sent: rows of these that have text to translate.
        characters: characters of that text, placeholders not counted; 0 where nothing is billed.
        routed: rows that routing leaves out.
    """

    rows: int = 0
    sent: int = 0
    characters: int = 0
    routed: int = 0

    def plus(self, other: Remaining) -> Remaining:
        """The sum of two."""
        return Remaining(*(one + two for one, two in zip(self, other, strict=True)))


def count_shard(build: Build, number: int) -> int:
    """Task: count what is left to translate of a shard: nothing of one that is translated already.

    Returns:
        Rows counted.
    """
    plan = build.preparing[build.shard(number).source]
    found = Remaining(read_summary(build, "decided", number)["kept"])
    if build.is_translated(number):
        found = Remaining()
    elif plan.counted:
        characters = [count_characters(record, plan.router) for record in kept_records(build, number)]
        sent, routed = [count for count in characters if count > 0], characters.count(-1)
        found = Remaining(found.rows - routed, len(sent), sum(sent), routed)
    write_summary(build, "counted", number, {"remaining": found})
    return found.rows


def remaining_of(build: Build, number: int) -> Remaining:
    """What `count_shard` found."""
    return Remaining(*read_summary(build, "counted", number)["remaining"])


def count_characters(record: Record, router: Router | None) -> int:
    """Code points that a service bills for a record: its fields' text without placeholders; -1 if routing drops it."""
    leave: frozenset[str] = frozenset()
    if router is not None:
        decision = router.decide(record)
        if decision.route == "drop":
            return -1
        leave = decision.leave
    fields = {name: text for name, text in record.texts().items() if name not in leave and text.strip()}
    document = make_document(fields)
    return 0 if document is None else visible_length(document.text)
