"""Personal data by form: what is replaced, and what only looks like it."""

from __future__ import annotations

import pytest

from kollm.core.records import Original, Record
from kollm.quality.personal_forms import is_resident_number
from kollm.quality.privacy import screen
from tests.quality.labelled.personal_data import figures


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("제 번호는 010-2345-6789이에요.", "제 번호는 000-0000-0000이에요."),
        ("연락처010-2345-6789", "연락처000-0000-0000"),
        ("031)345-6789로 전화하세요.", "000)000-0000로 전화하세요."),
        ("０１０－２３４５－６７８９입니다", "000－0000－0000입니다"),
        ("메일은 gildong@corp-mail.co.kr로 보내 주세요.", "메일은 person1@example.com로 보내 주세요."),
        ("주민등록번호 900213 - 1234567", "주민등록번호 000000 - 0000000"),
        ("외국인등록번호는 900213-5234567이에요", "외국인등록번호는 000000-0000000이에요"),
        ("여권번호는 M12345678입니다", "여권번호는 M00000000입니다"),
        ("면허 11-22-345678-90이에요", "면허 00-00-000000-00이에요"),
        ("대구 12-345678-90", "대구 00-000000-00"),
        ("220-81-62517로 끊어 주세요", "000-00-00000로 끊어 주세요"),
        ("신한 110-234-567890으로 보내세요", "신한 000-000-000000으로 보내세요"),
        ("4111-1111-1111-1111로 결제", "0000-0000-0000-0000로 결제"),
    ],
)
def test_korean_forms_are_masked_whole_and_particles_stay(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert clean(expected) == expected


def test_recall_and_false_alarms_on_the_labelled_sentences() -> None:
    found = figures()
    assert {kind: item for kind, item in found.items() if item.masked < 0.95 * item.values} == {}
    assert sum(item.alarms for item in found.values()) <= 1  # a warehouse code whose check digit happens to be right
    assert min(item.values for item in found.values()) >= 7
    assert min(item.clean for item in found.values()) >= 3


def test_the_original_that_a_record_keeps_is_screened_too() -> None:
    original = Original("My mail is ana@firm.kr.", "", "Call 010-2345-6789.")
    changed, found = screen(Record("x", "own", "메일은 ana@firm.kr예요.", "", "네.", original=original))
    assert changed.original == Original("My mail is person1@example.com.", "", "Call 000-0000-0000.")
    assert found == {"email": 1}


def test_check_digits_count_only_without_a_hyphen() -> None:
    assert is_resident_number("901231-8234567")
    assert is_resident_number("9001011234568")
    assert not is_resident_number("9001011234560")
    assert not is_resident_number("900132-1234567")
    assert not is_resident_number("text")
