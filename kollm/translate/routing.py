"""Routing: rows whose meaning dies in translation are kept in part, answered anew, or dropped, before money is spent.

The rules are in routing.yaml, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from kollm.core.errors import InputError
from kollm.core.files import read_yaml
from kollm.core.hashing import content_id
from kollm.core.reading import conforming
from kollm.core.records import Record

Route = Literal["translate", "keep", "regenerate", "drop"]
RULES_FILE = Path(__file__).with_name("routing.yaml")


class Decision(NamedTuple):
    """What to do with one record.

    Attributes:
        route: the way it goes.
        leave: names of the fields that stay as they are.
        reason: why, where it is not simply translated.
        rule: name of the rule that decided.
    """

    route: Route
    leave: frozenset[str] = frozenset()
    reason: str = ""
    rule: str = ""


def _compile(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # The line breaks of a folded pattern are for the reader.
    return re.compile(re.sub(r"\s*\n\s*|\s+(?=\|)", "", value.strip()), re.DOTALL)


class Rule(BaseModel):
    """One row of routing.yaml; the file says what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: str
    instruction: Annotated[re.Pattern[str], BeforeValidator(_compile)]
    unless: Annotated[re.Pattern[str] | None, BeforeValidator(_compile)] = None
    input: Literal["present", "absent"] | None = None
    route: Literal["keep", "regenerate", "drop"]
    leave: frozenset[Literal["instruction", "input", "output"]] = frozenset()
    reason: str

    def fits(self, instruction: str, has_input: bool) -> bool:
        """Whether the rule decides about such a turn."""
        if self.input is not None and (self.input == "present") != has_input:
            return False
        return bool(self.instruction.search(instruction)) and not (self.unless and self.unless.search(instruction))


class Router:
    """Decides by the first rule that fits.

    Args:
        rules: the rules, in order; None for those of routing.yaml.
        evaluation: True for evaluation tasks, of which none is dropped or answered anew.

    Attributes:
        fingerprint: content id of all that decides.
    """

    def __init__(self, rules: Sequence[Rule] | None = None, evaluation: bool = False) -> None:
        self._rules = load_rules() if rules is None else tuple(rules)
        self._evaluation = evaluation
        self._any = _any_of([rule.instruction for rule in self._rules])
        self.fingerprint = content_id([evaluation, *(rule.model_dump(mode="json") for rule in self._rules)])

    def decide(self, record: Record) -> Decision:
        """What to do with a record, its earlier turns included."""
        turns = [*(user for user, _ in record.history), record.instruction]
        fitting = [self._rule(turn, bool(record.input.strip()) and turn is turns[-1]) for turn in turns]
        if record.history:
            return _of_conversation(fitting)
        rule = fitting[-1]
        if rule is None or (self._evaluation and rule.route != "keep"):
            return Decision("translate")
        leave = frozenset({"output"}) if rule.route == "regenerate" else frozenset(rule.leave)
        return Decision(rule.route, leave, rule.reason, rule.name)

    def _rule(self, instruction: str, has_input: bool) -> Rule | None:
        head = instruction[:_READ].lower()
        if self._any is not None and not self._any.search(head):
            return None
        return next((rule for rule in self._rules if rule.fits(head, has_input)), None)


_READ = 500
"""Characters of an instruction that are looked at: what it asks stands at its beginning."""


def _any_of(patterns: Sequence[re.Pattern[str]]) -> re.Pattern[str] | None:
    """One pattern for all, which tells at half the cost that none fits; None for patterns that cannot be joined."""
    if any(pattern.groups or pattern.flags != patterns[0].flags for pattern in patterns):
        return None
    try:
        return re.compile("|".join(f"(?:{pattern.pattern})" for pattern in patterns), patterns[0].flags)
    except (re.error, IndexError):  # flags of its own at the beginning of each; no rules at all
        return None


def load_rules(path: Path = RULES_FILE) -> tuple[Rule, ...]:
    """Read a rule table.

    Raises:
        InputError: the file is missing or does not hold rules; the message names the fault.
    """
    where, what_to_do = f"The rule table '{path}'", f"compare it with {RULES_FILE}"
    try:
        return tuple(conforming(TypeAdapter(list[Rule]), read_yaml(path), where, what_to_do))
    except re.error as error:
        raise InputError(f"{where}: no regular expression ({error}) - {what_to_do}.") from error


def fresh_answer_rules() -> tuple[Rule, ...]:
    """The shipped rules, and for all other single-turn rows an answer asked anew: KoAlpaca's way."""
    reason = "every answer is asked of a model, and only the question is translated"
    every = Rule.model_validate({"name": "fresh-answers", "instruction": ".", "route": "regenerate", "reason": reason})
    return (*load_rules(), every)


def _of_conversation(fitting: Sequence[Rule | None]) -> Decision:
    leave: set[str] = set()
    last = len(fitting) - 1
    for number, rule in enumerate(fitting):
        if rule is not None and number < last:
            leave |= {f"history.{number}.user", f"history.{number}.assistant"}
        elif rule is not None:
            leave |= {"instruction", "input", "output"}
    first = next((rule for rule in fitting if rule is not None), None)
    if first is None:
        return Decision("translate")
    if all(rule is not None for rule in fitting):
        return Decision("drop", frozenset(), first.reason, first.name)
    return Decision("keep", frozenset(leave), first.reason, first.name)
