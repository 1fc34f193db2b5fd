"""The picture of the layers in CONTRIBUTING.md is drawn from the contract that import-linter checks.

To draw it anew: python -m tests.test_layers
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "CONTRIBUTING.md"
PLACE = re.compile(r"(<!-- layers -->\n).*?(<!-- /layers -->)", re.DOTALL)


def layers() -> list[list[str]]:
    """The wings by floor, the highest first; a wing imports from lower floors alone."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [floor.split(" | ") for floor in contract["layers"]]


def picture() -> str:
    """The floors as indented text, a wing of one floor beside the other."""
    floors = layers()
    width = max(len("   ".join(floor)) for floor in floors) + 4
    lines = [f"    | {'   '.join(floor).center(width)} |" for floor in floors]
    rule = f"    +{'-' * (width + 2)}+"
    return "\n".join([rule, *(line for floor in lines for line in (floor, rule))])


def drawn(text: str) -> str:
    return PLACE.sub(lambda match: f"{match[1]}{picture()}\n{match[2]}", text)


def test_the_picture_is_that_of_the_contract() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert PLACE.search(text) and drawn(text) == text, "draw it anew: python -m tests.test_layers"


def test_every_wing_has_a_floor() -> None:
    wings = {path.parent.name for path in (ROOT / "kollm").glob("*/__init__.py")}
    assert wings == {wing for floor in layers() for wing in floor}


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
