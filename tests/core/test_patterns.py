"""Regular expressions of adapters: usual ones pass, those that can take for ever are refused before they are tried."""

from __future__ import annotations

import pytest

from kollm.core.errors import InputError
from kollm.core.patterns import check_pattern


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.(q_proj|v_proj)",
        r"^model\.layers\.(1[0-9]|2[0-3])\..*(query_key_value|dense)$",
        r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r"gpt_neox\.layers\.\d{1,2}\.attention\.query_key_value",
        "all-linear",
    ],
)
def test_usual_patterns_pass(pattern: str) -> None:
    check_pattern(pattern, "target_modules")


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(.*)*x", "(.*.*)*", ".*.*.*.*x", "(a|a)*b" * 5, r"(\w+\.)+\w+$", "((a{1,99}){1,99}){1,99}", r"(.+)\1+", "(?:x*)*",
     "(", "[", "a" * 5000, "(?P<n>a*)(?(n)b|c)"],
)  # fmt: skip
def test_patterns_that_may_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="target_modules is "):
        check_pattern(pattern, "target_modules")
