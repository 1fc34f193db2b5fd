"""Routing: which rows die in translation, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kollm.core.errors import InputError
from kollm.core.records import Record
from kollm.services.ledger import Ledger
from kollm.translate import Router, translate_records
from kollm.translate.routing import load_rules
from tests.servers.deepl import DeepLServer
from tests.translate.conftest import Engine


def row(instruction: str, text: str = "", **changes: object) -> Record:
    return Record("x-1", "x", instruction, text, "An answer here.", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instruction", "text", "route", "rule"),
    [
        ("Correct the grammar of the sentence.", "He go home.", "keep", "grammar-of-an-input"),
        ("Find the misspelling.", "It is comon.", "keep", "grammar-of-an-input"),
        ('Correct the grammar: "He go home."', "", "drop", "grammar-in-the-instruction"),
        ("Explain why grammar matters.", "", "translate", ""),
        ("Rewrite the sentence in passive voice.", "He ate it.", "keep", "english-forms-of-an-input"),
        ("Translate the English sentence into Chinese.", "Hello.", "keep", "translation-of-an-input"),
        ('Translate "good day" into Spanish.', "", "drop", "translation-in-the-instruction"),
        ("How do you say thank you in French?", "", "drop", "translation-in-the-instruction"),
        ("Explain how to translate strategy into action.", "", "translate", ""),
        ("Describe how ribosomes translate mRNA.", "", "translate", ""),
        ("Identify the language of the text.", "Bonjour.", "keep", "language-of-an-input"),
        ('What language is "Bonjour" in?', "", "drop", "language-in-the-instruction"),
        ("What is the best programming language: C or D?", "", "translate", ""),
        ("Tell if the sentence contains toxic language.", "You fool.", "translate", ""),
        ("What language is spoken in Brazil?", "", "translate", ""),
        ("Write an anagram of the word.", "listen", "drop", "letters"),
        ("Name fruits that start with the letter B.", "", "drop", "letters"),
        ("Write a Python function that finds palindromes.", "", "translate", ""),
        ("Sort the following list of names alphabetically.", "John, Amanda, Maria", "drop", "letters"),
        ("Generate a function to sort a list of strings alphabetically", "", "translate", ""),
        ("Generate two foreign language translations for each word given.", "Cat", "keep", "translation-of-an-input"),
        ("Tell me a joke about PhDs.", "", "regenerate", "wordplay"),
        ("Write a limerick about cats.", "", "regenerate", "rhyme"),
        ("Compose a haiku on this.", "summer", "regenerate", "rhyme"),
        ("List three fruits.", "", "translate", ""),
    ],
)
def test_routes(instruction: str, text: str, route: str, rule: str) -> None:
    decision = Router().decide(row(instruction, text))
    assert (decision.route, decision.rule) == (route, rule)
    assert bool(decision.reason) == (route != "translate")


def test_what_is_left_as_it_is() -> None:
    router = Router()
    assert router.decide(row("Correct the grammar.", "He go.")).leave == {"input", "output"}
    assert router.decide(row("Identify the language.", "Bonjour.")).leave == {"input"}
    assert router.decide(row("Write a limerick.")).leave == {"output"}


def test_evaluation_tasks_are_never_lost() -> None:
    router = Router(evaluation=True)
    assert router.decide(row("Write an anagram of the word.", "listen")).route == "translate"
    assert router.decide(row("Write a limerick.")).route == "translate"
    assert router.decide(row("Correct the grammar.", "He go.")).route == "keep"


def test_a_turn_of_a_conversation_stays_as_it_is() -> None:
    record = row("Thank you.", history=(("Hi.", "Hello."), ('Translate "day" to French.', "jour")))
    decision = Router().decide(record)
    assert decision.route == "keep" and decision.leave == {"history.1.user", "history.1.assistant"}
    last = row("Write a limerick.", history=(("Hi.", "Hello."),))
    assert Router().decide(last).leave == {"instruction", "input", "output"}
    every = row("Write a limerick.", history=(("Write a haiku.", "..."),))
    assert Router().decide(every).route == "drop"


def test_routed_rows_on_their_way(server: DeepLServer, engine: Engine, ledger: Ledger) -> None:
    records = [
        row("Correct the grammar of the sentence.", "He go home."),
        row('Translate "good day" into Spanish.'),
        row("Write a limerick about cats."),
        row("List three fruits."),
    ]
    kept, dropped, fresh, plain = translate_records(records, engine(), ledger=ledger, router=Router())
    assert (kept.route, kept.reason, kept.record.input, kept.record.lang) == ("keep", None, "He go home.", "ko")
    assert kept.record.instruction != records[0].instruction and "input" in kept.untranslated
    assert dropped.reason == "route: both sides of a translation task would be translated"
    assert dropped.record.lang == "en" and dropped.record.provenance.characters == 0
    assert (fresh.route, fresh.reason, fresh.record.output) == ("regenerate", None, "An answer here.")
    assert plain.route == plain.record.provenance.route == "translate"
    sent = [text for request in server.state.requests for text in request["text"]]
    assert len(sent) == 3 and not any("He go" in text for text in sent)


def test_every_rule_is_readable() -> None:
    rules = load_rules()
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(len(rule.reason) > 20 for rule in rules)
    assert all((rule.route == "keep") == bool(rule.leave) for rule in rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: a\n  colour: blue", "the key '0.instruction' is missing"),
        ("- {name: a, instruction: '(', route: drop, reason: b}", "no regular expression"),
        ("- {name: a, instruction: b, route: burn, reason: b}", "'0.route' is 'burn'"),
        ("a: [", "line 1: not valid YAML"),
    ],
)
def test_a_bad_table_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_rules(path)
