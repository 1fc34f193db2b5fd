"""The picture of the layers in CONTRIBUTING.md is drawn from the contract that import-linter checks.

To draw it anew: python -m tests.test_layers
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
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


MOST_PARAMETERS = 6
LONGER = {
    "kollm.build_dataset as it is documented": {"build_dataset", "plan_build"},
    "transformers' interface of an attention function": {"varlen_attention", "_row_by_row"},
    "what a user may name in translator_options": {"DeepLTranslator", "LocalTranslator", "OpenAITranslator"},
}
"""Functions of more than six parameters, with the reason; a command's parameters are its options."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package but commands; a constructor by the name of its class."""
    for path in sorted((ROOT / "kollm").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        owners = {item: node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_command(node):
                yield owners[node] if node.name == "__init__" else node.name, node


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(mark).partition("(")[0].endswith("command") for mark in node.decorator_list)


def test_no_function_takes_more_than_six_parameters() -> None:
    found = set()
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if len([argument for argument in arguments if argument.arg not in ("self", "cls")]) > MOST_PARAMETERS:
            found.add(name)
    assert found == set().union(*LONGER.values()), "give the parameters a dataclass, or shorten the list"


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
