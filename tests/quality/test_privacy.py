"""Personal data by form: what is replaced, and what only looks like it."""

from __future__ import annotations

import pytest

from kollm.core.records import Record
from kollm.quality.privacy import is_registration_number, screen


def clean(text: str) -> str:
    return screen(Record("x", "sharegpt", text, "", "y")).record.instruction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to mina.seo+work@mail.example-firm.co.kr!", "Write to person1@example.com!"),
        ("call 010-1234-5678 or 02-123-4567", "call 000-0000-0000 or 00-000-0000"),
        ("+82 10-1234-5678", "+00 00-0000-0000"),
        ("(212) 555-0147, 212-555-0147, 212.555.0147", "(000) 000-0000, 000-000-0000, 000.000.0000"),
        ("주민번호 900101-1234567입니다", "주민번호 000000-0000000입니다"),
        ("9001011234568", "0000000000000"),
    ],
)
def test_personal_data_is_replaced(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and git@github.com:a/b.git and @handle and a @ b",
        "pip install tool@1.2.3",
        "2023-05-01 12:30:45, 192.168.0.1, 3.14159265358979, 1,234,567,890",
        "ISBN 978-3-16-148410-0, order 1234-5678-9012-3456, 900101-9234567, 991301-1234567",
        "9001011234567",
        "x = 1234567890",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert clean(text) == text


def test_the_same_address_stays_the_same_within_a_row_and_kinds_are_counted() -> None:
    record = Record(
        "x", "sharegpt", "Mail ana@firm.kr and bo@firm.kr.", "ANA@firm.kr", "I mailed bo@firm.kr; call 010-1234-5678.",
        history=(("I am ana@firm.kr", "Hello!"),),
    )  # fmt: skip
    changed, found = screen(record)
    assert changed.instruction == "Mail person1@example.com and person2@example.com."
    assert changed.input == "person1@example.com"
    assert changed.output == "I mailed person2@example.com; call 000-0000-0000."
    assert changed.history == (("I am person1@example.com", "Hello!"),)
    assert found == {"email": 5, "phone": 1}
    assert screen(changed).record is changed


def test_check_digits_count_only_without_a_hyphen() -> None:
    assert is_registration_number("901231-8234567")
    assert is_registration_number("9001011234568")
    assert not is_registration_number("9001011234560")
    assert not is_registration_number("900132-1234567")
    assert not is_registration_number("text")
