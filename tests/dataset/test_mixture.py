"""Mixtures: what is drawn of each part, that it is the same everywhere, and what is said of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from kollm.cli import cli
from kollm.core.errors import InputError, RecipeError
from kollm.core.records import Record
from kollm.dataset.folder import DatasetWriter, Part, read_manifest, read_records, training_parts
from kollm.dataset.given import given_datasets
from kollm.dataset.mixture import MixturePart, drawn_rows, mix, parse_given
from kollm.dataset.tables import to_table
from kollm.recipe.load import parse_recipe
from kollm.recipe.schema import GivenDataset
from kollm.run.data import training_rows
from kollm.train.data import split_heldout, split_parts


def write(folder: Path, rows: list[Record], config: str = "a") -> str:
    with DatasetWriter(folder) as writer:
        writer.write(Part(config, "train"), to_table(rows))
        writer.publish({"sources": [config], "rows": {config: len(rows)}}, "---\nlicense: mit\n---\n")
    return str(folder)


def rows(name: str, count: int, licence: str = "MIT") -> list[Record]:
    texts = [hashlib.sha256(f"{name}{n}".encode()).hexdigest() for n in range(count)]
    return [
        Record(f"{name}-{n}", name, f"물음 {text}", "", f"대답 {text[::-1]}", lang="ko", licence=licence)
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("amounts", "there", "wanted"),
    [
        ([{}, {}], [10, 3], [10, 3]),
        ([{"limit": 4}, {"limit": 9}], [10, 3], [4, 3]),
        ([{"repeat": 2}, {"repeat": 0.5}], [10, 3], [20, 1]),
        ([{"repeat": 2.5}, {}], [10, 3], [25, 3]),
        ([{}, {"weight": 2}], [10, 8], [4, 8]),
        ([{"weight": 1}, {"weight": 3}], [100, 30], [10, 30]),
        ([{"weight": 0.7}, {"weight": 0.3}], [70, 30], [70, 30]),
        ([{"weight": 1}, {"weight": 1}, {"limit": 5}], [100, 30, 50], [30, 30, 5]),
    ],
)
def test_how_many_rows_each_part_gives(amounts: list[dict[str, float]], there: list[int], wanted: list[int]) -> None:
    parts = [MixturePart(f"p{n}", "D", amount) for n, amount in enumerate(amounts)]
    assert drawn_rows(parts, there) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.jsonl", GivenDataset(dataset="a.jsonl")),
        ("ORG/NAME@v1:weight=2", GivenDataset(dataset="ORG/NAME@v1", weight=2)),
        ("C:\\rows.csv:limit=500:name=mine", GivenDataset(dataset="C:\\rows.csv", limit=500, name="mine")),
        ("a:b.json:repeat=1.5", GivenDataset(dataset="a:b.json", repeat=1.5)),
    ],
)
def test_an_amount_stands_after_the_dataset(text: str, wanted: GivenDataset) -> None:
    assert parse_given(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:weight=2:limit=3", "weight and limit of 'a' both say how many rows are taken - keep one of them"),
        ("a:weight=-1", "weight is -1.0 - input should be greater than 0"),
        ("a:repeat=0", "repeat is 0.0 - input should be greater than 0"),
        ("a:limit=0", "limit is 0.0 - input should be greater than or equal to 1"),
        ("a:limit=1.5", "limit is 1.5 - input should be a valid integer"),
        ("a:weight=much", "could not convert string to float: 'much' - write a number, such as a:weight=2"),
        ("a:weight=nan", "weight is nan - input should be a finite number"),
        ("a:weight=1:weight=2", "weight is said twice"),
        ("a:name=Große", "name is Große - string should match pattern"),
    ],
)
def test_an_amount_that_means_nothing_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"^--dataset .*\.$") as error:
        parse_given(text)
    assert words in str(error.value)


def test_a_draw_depends_on_ids_and_seed_alone(tmp_path: Path) -> None:
    there = rows("a", 200)
    one, other = write(tmp_path / "one", there), write(tmp_path / "other", there[::-1])
    drawn = [
        {row.id for row in read_records(mix([MixturePart("a", name, {"limit": limit})], tmp_path / f"m{n}", seed))}
        for n, (name, limit, seed) in enumerate([(one, 50, 0), (other, 50, 0), (one, 60, 0), (one, 50, 1)])
    ]
    assert len(drawn[0]) == 50
    held = split_heldout(read_records(tmp_path / "m0"), 0.2).heldout
    assert 2 <= len(held) <= 20, "what is drawn does not decide what is held out"
    assert drawn[0] == drawn[1]
    assert drawn[0] < drawn[2]
    assert drawn[0] != drawn[3]
    again = mix([MixturePart("a", one, {"limit": 50})], tmp_path / "again", 0)
    assert [path.read_bytes() for path in sorted(again.rglob("*")) if path.is_file()] == [
        path.read_bytes() for path in sorted((tmp_path / "m0").rglob("*")) if path.is_file()
    ]


def test_copies_have_ids_of_their_own_and_fall_on_one_side(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", rows("a", 40))
    folder = mix([MixturePart("a", dataset, {"repeat": 2.5}), MixturePart("b", dataset)], tmp_path / "m")
    there = list(read_records(folder))
    assert len({row.id for row in there}) == len(there) == 140
    assert Counter(row.id.partition("-r")[0] for row in there).most_common()[-1][1] == 3
    split, parts = split_parts(training_parts(folder), 0.3)
    train, held = ({row.id.partition("-r")[0] for row in side} for side in split)
    assert not train & held
    assert len(split.heldout) == len(held), "a row is held out once, whatever its copies"
    assert sum(parts.values()) == len(split.train)
    assert set(parts) == {"a", "b"}
    own = split_heldout(read_records(dataset), 0.3)
    assert {row.id for row in own.heldout} == held, "the mixture holds out what the dataset itself would"


def test_duplicates_and_leaks_are_told_across_the_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kollm.sources import read_source

    monkeypatch.setattr("kollm.dataset.mixture.EVALUATION", "sample")
    task = next(row for row in read_source("human_eval", "sample") if isinstance(row, Record))
    leaking = Record("leak-0", "b", task.instruction, task.input, "답", licence="CC-BY-4.0", lang="ko")
    shared = rows("a", 30)
    again = [Record(f"b-{n}", "b", row.instruction, "", row.output, lang="ko", licence="CC-BY-4.0") for n, row in enumerate(shared[:7])]  # fmt: skip
    parts = [
        MixturePart("first", write(tmp_path / "a", shared)),
        MixturePart("second", write(tmp_path / "b", [*again, leaking, *rows("c", 5, "CC-BY-4.0")], "b")),
    ]
    folder = mix(parts, tmp_path / "m")
    said = capsys.readouterr().err
    assert "mixture: first: 30 rows (69.8%)" in said
    assert "7 rows of second repeat a row of first (exact duplicates; they are kept)" in said
    assert "1 row holds an evaluation task, e.g. leak-0: " in said
    manifest = read_manifest(folder)
    assert manifest["mixture"]["duplicates"] == {"first = second, exact": 7}
    assert [part["drawn"] for part in manifest["mixture"]["parts"]] == [30, 13]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card
    assert "first = second, exact duplicates: 7 rows" in card
    assert str(tmp_path) not in card + json.dumps(manifest)


def test_own_rows_and_datasets_are_mixed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "My Rows.jsonl"
    own.write_text(
        "".join(json.dumps({"질문": f"물음 {n}", "답변": f"답 {n}"}) + "\n" for n in range(9)), encoding="utf-8"
    )
    mapping = {"instruction": "질문", "output": "답변"}
    given = [GivenDataset(dataset=str(own), map=mapping, weight=1), GivenDataset(dataset=write(tmp_path / "d", rows("a", 40)), weight=2)]  # fmt: skip
    folder = given_datasets(given, tmp_path / "out", seed=3)
    assert read_manifest(Path(folder))["rows"] == {"my-rows": 9, "d": 18}
    assert {row.id for row in read_records(folder, "my-rows")} == {f"my-rows-{n}" for n in range(9)}
    capsys.readouterr()
    assert given_datasets(given, tmp_path / "out", seed=3) == folder
    assert "mixture: as it was drawn before" in capsys.readouterr().err
    assert given_datasets(given, tmp_path / "out", seed=4) != folder


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["{d}:limit=3", "{d}"], "Two parts of the mixture are called 'd' - name one of them"),
        (["{d}:weight=0.0001:name=x", "{d}"], "The part 'x' gives no row of its 9 to the mixture (weight 0.0001)"),
        (["{d}:repeat=0.05", "{d}:name=x"], "The part 'd' gives no row of its 9 to the mixture (repeat 0.05)"),
        (["nowhere.jsonl:weight=2", "{d}"], "There is no file or folder 'nowhere.jsonl'"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_sentence(texts: list[str], words: str, tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", rows("a", 9))
    line = ["data", "mix", *(text.format(d=dataset) for text in texts), "-o", str(tmp_path / "m")]
    result = CliRunner().invoke(cli, line)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert not (tmp_path / "m").exists()


def test_options_for_one_dataset_are_refused_for_several(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", rows("a", 9))
    line = ["preview", "demo", "--dataset", dataset, "--dataset", f"{dataset}:name=x", "--map", "instruction=a"]
    result = CliRunner().invoke(cli, line)
    assert isinstance(result.exception, InputError)
    assert "--map is for one dataset, and a mixture has several parts" in str(result.exception)


def test_sources_of_a_recipe_have_shares() -> None:
    sources = [{"name": "dolly", "input": "sample", "repeat": 2}, {"name": "sharegpt", "input": "sample", "repeat": 1}]
    values = {"base": {"model": "toy:gpt_neox"}, "data": {"sources": sources, "filters": "none"}}
    plain = [{key: value for key, value in source.items() if key != "repeat"} for source in sources]
    drawn = training_rows(parse_recipe(values, "a test")).parts
    built = training_rows(parse_recipe({**values, "data": {**values["data"], "sources": plain}}, "a test")).parts  # type: ignore[dict-item]
    assert {name: len(part) for name, part in drawn.items()} == {
        "dolly": 2 * len(built["dolly"]),
        "sharegpt": len(built["sharegpt"]),
    }


def test_a_recipe_says_its_mixture_in_one_way() -> None:
    base = {"base": {"model": "toy:gpt_neox"}}
    with pytest.raises(RecipeError, match=r"data\.dataset and data.datasets are both set - keep one"):
        parse_recipe({**base, "data": {"dataset": "a/b", "datasets": [{"dataset": "c/d"}]}}, "R")
    with pytest.raises(RecipeError, match="weight and limit of 'dolly' both say how many rows are taken"):
        parse_recipe({**base, "data": {"sources": [{"name": "dolly", "weight": 1, "limit": 5}]}}, "R")
    with pytest.raises(RecipeError, match=r"'data\.datasets.0.repeat' is 0 - input should be greater than 0"):
        parse_recipe({**base, "data": {"datasets": [{"dataset": "c/d", "repeat": 0}]}}, "R")
