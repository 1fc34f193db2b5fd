"""How many inputs the fuzzer tries: few in CI, as many as one likes by option.

pytest tests/fuzz --fuzz-count 10000 --fuzz-seeds 1,2,3
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-count", type=int, default=2, help="Inputs for each target and seed.")
    parser.addoption("--fuzz-seeds", default="0", help="Seeds, with commas between.")
    parser.addoption("--fuzz-only", default="", help="Targets whose name begins so.")
    parser.addoption("--fuzz-keep", default="", help="Folder that gets the inputs that failed.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fuzz_seed" in metafunc.fixturenames:
        metafunc.parametrize("fuzz_seed", metafunc.config.getoption("--fuzz-seeds").split(","))
