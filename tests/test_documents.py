"""Every kollm command that a document shows exists, with the options shown; every link in the documents leads somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kollm.cli import LazyGroup, cli
from kollm.recipe.methods import METHODS, PREFERENCE_METHODS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands(text: str) -> Iterator[str]:
    """Command lines in indented and fenced blocks and in inline code, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", text)  # continued lines
    text = re.sub(r'"\$\(.*?\)"', "X", text)  # the output of another command
    fenced = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    indented = "\n".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    for match in re.finditer(r"^(?:\$ )?(kollm [^\n]*)", f"{fenced}\n{indented}", re.MULTILINE):
        yield re.split(r"\s#|\s\||\s&&|\s>|;", match[1])[0].strip()
    yield from re.findall(r"`(kollm [a-z][^`\n]*)`", text)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line.replace("...", ""))
    except ValueError:  # a sentence of prose with an apostrophe
        return line.split()


def known_options(line: str) -> tuple[str, set[str]] | None:
    """The command of a line and its options; None for prose that only begins like a command."""
    words = _words(line)[1:]
    command: click.Command = LazyGroup(name="kollm")
    context = click.Context(cli)
    taken = []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise AssertionError(f"there is no command '{' '.join([*taken, words[0]])}'")
        taken.append(words.pop(0))
        command = found
    return " ".join(taken), {option for param in command.params for option in [*param.opts, *param.secondary_opts]}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_exist(path: Path) -> None:
    for line in commands(path.read_text(encoding="utf-8")):
        if "|" in line:  # `a | b | c` lists alternatives
            continue
        known = known_options(line)
        assert known is not None
        name, options = known
        for word in _words(line):
            if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in ("-h", "--help", "--version", "--debug"):
                assert word in options, f"{path.name}: `{line}`: {name} has no option {word}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_documents_come_in_both_languages() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    english = {page.removesuffix(".md") for page in pages if not page.endswith(".ko.md")}
    assert english == {page.removesuffix(".ko.md") for page in pages if page.endswith(".ko.md")}


def test_the_badges_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    minors = [int(match[1]) for line in project["classifiers"] if (match := re.search(r":: 3\.(\d+)$", line))]
    for name in ("README.md", "README.ko.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert f"python-3.{min(minors)}_to_3.{max(minors)}-" in text and project["license"].replace("-", "--") in text
        assert f"{project['urls']['Repository']}/actions/workflows/ci.yml/badge.svg" in text
    assert (ROOT / ".github" / "workflows" / "ci.yml").is_file() and (ROOT / "LICENSE").is_file()


def methods_table(korean: bool) -> str:
    """The preference methods with their keys and defaults, as the training pages show them."""
    head = (
        ("방법", "논문", "trainer의 키와 기본값", "TRL의 키")
        if korean
        else ("method", "paper", "keys of trainer, with defaults", "keys of TRL's")
    )
    lines = ["| " + " | ".join(head) + " |", "| :-- | :-- | :-- | :-- |"]
    for name in PREFERENCE_METHODS:
        method = METHODS[name]
        keys = ", ".join(f"`{key}` {value.default}" for key, value in method.keys.items())
        lines.append(f"| `{name}` | {method.paper} | {keys} | {method.config} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["train.md", "train.ko.md"])
def test_the_methods_are_drawn_from_their_table(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    shown = re.search(r"<!-- methods -->\n(.*?)\n?<!-- /methods -->", text, re.DOTALL)
    assert shown and shown[1].strip() == methods_table(".ko" in name)


@pytest.mark.parametrize("name", ["data.md", "data.ko.md"])
def test_every_reason_for_which_a_source_leaves_a_row_out_is_explained(name: str) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "kollm" / "sources").glob("*.py")))
    reasons = set(re.findall(r'reject\(row, "([a-z_]+)"\)', code))
    table = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert reasons and sorted(reason for reason in reasons if f"`{reason}`" not in table) == []
