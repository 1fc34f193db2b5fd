"""Makes a folder ready for the Hub, kind by kind: files, card and the checks that need no upload."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import HfApi
from pydantic import BaseModel

from kollm.core.card import to_yaml
from kollm.core.counting import counted
from kollm.core.errors import InputError, StateError
from kollm.core.files import file_sha256, read_json, read_object, read_text, require_file
from kollm.core.licences import common_licence
from kollm.core.parquet import open_parquet
from kollm.core.reading import as_object, decode, parse_json, validated
from kollm.core.records import Record
from kollm.core.results import read_training_file
from kollm.dataset.folder import CARD, MANIFEST, PREFERENCES, REJECTED, read_manifest, read_records
from kollm.dataset.leak_check import EVALUATION, find_leaks, load_references
from kollm.dataset.preferences import read_preferences
from kollm.hub.cards import Card, end_of_text, public_recipe, toy_base_card, trained_card
from kollm.hub.lineage import (
    METRICS,
    RECIPE,
    TOY,
    TRAINING,
    Lineage,
    dataset_licence,
    find_base,
    find_dataset,
    find_evaluation,
    find_report,
    front_matter,
    joined_licence,
)
from kollm.hub.publication import KINDS, Publication, as_bytes, check_card, check_secrets, gather
from kollm.services.local_model import adapter_config
from kollm.services.repository import Reference, check_repository_name, hub_errors, locate, parse_reference

PLACEHOLDER = "PATH_OR_ID_OF_THIS_DATASET"
"""What a dataset's card says before the dataset has a name on the Hub."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a user says beside kind, folder and repository.

    Attributes:
        base: name on the Hub of the base of an adapter.
        dataset: name on the Hub of the dataset it was trained on.
        evaluation: name on the Hub of the evaluation set that was answered.
        report: report.json with its scores.
        unjudged: publish it without scores.
        allowed: places whose secrets were looked at and are none.
    """

    base: str | None = None
    dataset: str | None = None
    evaluation: str | None = None
    report: Path | None = None
    unjudged: bool = False
    allowed: tuple[str, ...] = ()


def prepare(kind_name: str, folder: Path, repository: str, names: Names, base_commit: str | None = None) -> Publication:
    """Gather and check everything that can be checked without sending it.

    Args:
        kind_name: a key of KINDS.
        folder: what to publish.
        repository: `ORG/NAME`.
        names: what the user said beside.
        base_commit: commit of an adapter's toy base, once that is published.

    Raises:
        InputError: the folder is not of its kind, a figure or file is missing, or a file must not be published.
        StateError: files were changed since they were made.
    """
    check_repository_name(repository)
    publication = gather(KINDS[kind_name], folder, repository)
    if "tokenizer_config.json" in publication.files:
        publication = _portable(publication)
    if kind_name == "dataset":
        publication = _dataset(publication, folder)
    elif kind_name == "adapter":
        publication = _adapter(publication, folder, names, base_commit)
    elif kind_name == "model":
        publication = _model(publication, folder, names)
    else:
        publication = _metric(publication, folder)
    check_card(publication)
    for item in (publication, publication.needs):
        if item is not None:
            check_secrets(item, folder, names.allowed)
    return publication


# --- dataset ----------------------------------------------------------------------------------------------------------


def _dataset(plain: Publication, folder: Path) -> Publication:
    manifest = read_manifest(folder)
    for name, checksum in manifest["files"].items():
        if not (folder / name).is_file() or file_sha256(folder / name) != checksum:
            raise StateError(f"'{folder / name}' is not as it was built - build the dataset again.")
    unlisted = [name for name in plain.files if name.endswith(".parquet") and name not in manifest["files"]]
    if unlisted:
        raise StateError(f"'{folder / unlisted[0]}' is not listed in {MANIFEST} - build the dataset again.")
    files = dict(plain.files)
    if CARD not in files:
        raise InputError(f"'{folder}' has no {CARD} - build the dataset again.")
    card = decode(as_bytes(files[CARD]), folder / CARD)
    files[CARD] = card.replace(PLACEHOLDER, plain.repository).encode("utf-8")
    _check_row_licences(front_matter(card), folder, list(manifest["files"]))
    _check_leaks(folder, list(manifest["files"]))
    files["dataset_info.json"] = _llama_factory(plain.repository, folder, list(manifest["files"]))
    return replace(plain, files=files)


def _check_row_licences(front: Mapping[str, Any], folder: Path, names: list[str]) -> None:
    licences: set[str] = set()
    for name in names:
        for batch in pq.ParquetFile(folder / name).iter_batches(columns=["licence"]):
            licences.update(batch.column(0).unique().to_pylist())
    if "" in licences:
        raise InputError(
            f"Rows of '{folder}' name no licence, which a push needs - build the dataset again with --licence, e.g. "
            "--licence CC-BY-4.0."
        )
    strictest, said = common_licence(licences), str(front.get("license"))
    if strictest != said:
        raise InputError(
            f"The card of '{folder}' says license: {said}, but its rows are under {', '.join(sorted(licences))}, which makes "
            f"{strictest} - write that."
        )


def _check_leaks(folder: Path, names: list[str]) -> None:
    """Refuse training rows that hold an evaluation task, in Korean or in the English they were translated from.

    Raises:
        InputError: there are some.
    """
    if not any(name.split("/")[1].startswith("train-") and not name.startswith(f"{REJECTED}/") for name in names):
        return
    rows: Iterator[Record] = (
        (replace(pair.record(), input=f"{pair.input}\n{pair.rejected}") for pair in read_preferences(folder, "train"))
        if _holds_preferences(names)
        else read_records(folder, split="train")
    )
    leaks = list(find_leaks(rows, load_references([EVALUATION])))
    if leaks:
        raise InputError(
            f"'{folder}' has {counted(len(leaks), 'training row that holds', 'training rows that hold')} an evaluation task, e.g. {leaks[0].row} holds {leaks[0].task} - see `kollm data leaks {folder}`, "
            "and build again without them."
        )


def _holds_preferences(names: list[str]) -> bool:
    return any(name.startswith(f"{PREFERENCES}/") for name in names)


def _llama_factory(repository: str, folder: Path, names: list[str]) -> bytes:
    """`dataset_info.json` as LLaMA-Factory reads it with `dataset_dir: REMOTE:ORG/NAME`: an entry for each config."""
    columns = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
    there = [set(open_parquet(folder / name, folder / name).schema_arrow.names) for name in names]
    later = ("system", "tools")  # which the folders of older versions lack
    columns |= {name: name for name in later if all(name in found for found in there)}
    pairs = _holds_preferences(names)
    ranking: dict[str, Any] = {"ranking": True} if pairs else {}
    if pairs:
        columns = {key: value for key, value in columns.items() if key != "response"}
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    parts = sorted({(name.split("/")[0], re.split(r"[-.]", name.split("/")[1])[0]) for name in names})
    short = repository.partition("/")[2]
    entries: dict[str, Any] = {}
    for config, split in parts:
        if config != REJECTED:
            entries[f"{short}-{config}"] = {
                "hf_hub_url": repository,
                "subset": config,
                "split": split,
                **ranking,
                "columns": columns,
            }
    for split in sorted({split for config, split in parts if config != REJECTED}, reverse=True):
        subset = PREFERENCES if pairs else "all"
        entries.setdefault(
            short, {"hf_hub_url": repository, "subset": subset, "split": split, **ranking, "columns": columns}
        )
    return (json.dumps(entries, indent=2) + "\n").encode("utf-8")


# --- adapter and model ------------------------------------------------------------------------------------------------


def _adapter(plain: Publication, folder: Path, names: Names, base_commit: str | None) -> Publication:
    training = _require_training(folder)
    base, base_folder = _base(folder, training, names)
    needs = None
    if base_folder is not None:
        base = Reference(f"{plain.repository}-base", base_commit)
        needs = _portable(gather(KINDS["model"], base_folder, base.repository))
    lineage = _lineage(folder, training, base, base_folder, names)
    if needs is not None and base_folder is not None:
        needs = _with_card(needs, toy_base_card(base_folder, base.repository, lineage.licence))
    config = adapter_config(folder)
    files = {
        **plain.files,
        "adapter_config.json": _json({**config, "base_model_name_or_path": base.repository, "revision": base.revision}),
        TRAINING: _json({**training, "location": str(base)}),
        RECIPE: _public_recipe(folder, base),
    }
    made = replace(plain, files=files, needs=needs)
    return _with_card(made, trained_card("adapter", folder, plain.repository, lineage))


def _model(plain: Publication, folder: Path, names: Names) -> Publication:
    if (folder / TOY).is_file():
        return _with_card(plain, toy_base_card(folder, plain.repository, "other"))
    training = _require_training(folder)
    _check_end_of_text(folder)
    base, base_folder = _base(folder, training, names)
    lineage = _lineage(folder, training, base, base_folder, names)
    files = {**plain.files, TRAINING: _json({**training, "location": str(base)}), RECIPE: _public_recipe(folder, base)}
    return _with_card(replace(plain, files=files), trained_card("model", folder, plain.repository, lineage))


def _check_end_of_text(folder: Path) -> None:
    """Refuse a model that would not stop: tokenizer, config and generation config must name one end of text.

    Raises:
        InputError: they do not, or the tokenizer has none.
    """
    text = end_of_text(folder)
    tokens = validated(_Tokenizer, read_json(folder / "tokenizer.json"), folder / "tokenizer.json", "merge it again")
    added = {item.content: item.id for item in tokens.added_tokens}
    for name in ("config.json", "generation_config.json"):
        value = read_object(folder / name).get("eos_token_id")
        if added.get(text) not in (value if isinstance(value, list) else [value]):
            raise InputError(
                f"'{folder / name}' ends a text with token {value} and the tokenizer with {added.get(text)} ('{text}') - "
                "merge it again, or mend the file."
            )


class _Token(BaseModel):
    content: str
    id: int


class _Tokenizer(BaseModel):
    added_tokens: list[_Token]


def _base(folder: Path, training: Mapping[str, Any], names: Names) -> tuple[Reference, Path | None]:
    """The base's name, and its folder where it is a toy that is only here; such a toy goes by its recipe's name.

    Raises:
        InputError: it is a folder that nobody else has, and no toy.
    """
    if names.base:
        return parse_reference(names.base), None
    base, base_folder = find_base(folder, training)
    if base is not None:
        return base, None
    assert base_folder is not None
    if not (base_folder / TOY).is_file():
        raise InputError(
            f"The base of '{folder}' is the folder '{base_folder}', which nobody else has - publish it with "
            "`kollm push model` and name it with --base ORG/NAME."
        )
    return Reference(str(training["recipe"]["base"]["model"])), base_folder


def _require_training(folder: Path) -> dict[str, Any]:
    """What the training wrote last, if all of it is there.

    Raises:
        InputError: a file is missing.
    """
    for name in (TRAINING, METRICS, RECIPE):
        if not (folder / name).is_file():
            raise InputError(
                f"'{folder}' has no {name}, from which its card is made: the training was cut off or was not kollm's - "
                "run `kollm train` to its end."
            )
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"'{folder}' holds no weights (no .safetensors file) - train or merge it again.")
    return read_training_file(folder / TRAINING, whole=True)


def require_licences(base: str, revision: str | None, dataset: str) -> None:
    """Refuse to train for the Hub what could not be published: on a base that nobody else has, or without licences.

    Args:
        base: folder or Hub name of the base.
        revision: commit of a base on the Hub.
        dataset: folder or Hub name of the dataset.

    Raises:
        InputError: the base is a folder and no toy, or base or dataset name no licence.
        ServiceError: the Hub cannot be reached.
    """
    files = locate(dataset, "dataset").folder
    if not front_matter(read_text(require_file(files / CARD, "The dataset's card"))).get("license"):
        raise InputError(
            f"The dataset '{dataset}' names no licence, which a push needs - name that of rows of yours with --licence, e.g. "
            "--licence CC-BY-4.0."
        )
    if not Path(base).is_dir():
        _hub_licence(Reference(base, revision))
    elif not (Path(base) / TOY).is_file():
        raise InputError(
            f"The base '{base}' is a folder, which nobody else has - publish it with `kollm push model`, and train on it by its "
            "name on the Hub."
        )


def _lineage(
    folder: Path, training: Mapping[str, Any], base: Reference, base_folder: Path | None, names: Names
) -> Lineage:
    dataset, files = find_dataset(folder, training, names.dataset)
    parts = {"dataset": dataset_licence(files)}
    if base_folder is None:
        parts["base"] = _hub_licence(base)
    return Lineage(
        base=base,
        base_folder=base_folder,
        dataset=dataset,
        dataset_fingerprint=training["dataset"],
        evaluation=find_evaluation(folder, names.evaluation),
        licence=joined_licence(parts),
        licence_parts=parts,
        report=find_report(folder, names.report, names.unjudged),
        translated=read_manifest(files).get("translator", {}).get("name", "") not in ("none", ""),
    )


def _hub_licence(base: Reference) -> str:
    with hub_errors("model", base):
        card = HfApi().model_info(base.repository, revision=base.revision).card_data
    licence = card.get("license") if card is not None else None
    if not licence:
        raise InputError(
            f"The card of the base '{base}' names no licence, so none can be named for what was made of it."
        )
    return str(licence)


def _portable(publication: Publication) -> Publication:
    """With a tokenizer configuration that transformers 4 reads too: it does not know the class name that 5 writes."""
    name = "tokenizer_config.json"
    config = as_object(parse_json(as_bytes(publication.files[name]), name), name)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("is_local", "local_files_only"):  # how it was loaded here
        config.pop(key, None)
    return replace(publication, files={**publication.files, name: _json(config)})


def _public_recipe(folder: Path, base: Reference) -> bytes:
    """The recipe with the names of local files in place of their paths, which mean nothing elsewhere."""
    return to_yaml(public_recipe(folder, base)).encode("utf-8") + b"\n"


def _with_card(publication: Publication, card: Card) -> Publication:
    files = {**publication.files, **card.files, CARD: card.text.encode("utf-8")}
    return replace(publication, files=files)


def _json(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    try:
        return (text + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot hold
        return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("ascii")


# --- metric -----------------------------------------------------------------------------------------------------------


def _metric(plain: Publication, folder: Path) -> Publication:
    name = folder.resolve().name
    missing = [file for file in (f"{name}.py", "app.py", "requirements.txt", CARD) if file not in plain.files]
    if missing:
        raise InputError(f"'{folder}' is no metric folder: it has no {missing[0]} - check the path.")
    if plain.repository.partition("/")[2] != name:
        raise InputError(
            f"`evaluate.load` looks for a script of the repository's own name - publish '{folder}' as "
            f"{plain.repository.partition('/')[0]}/{name}."
        )
    card = decode(as_bytes(plain.files[CARD]), folder / CARD).replace(f"ORG/{name}", plain.repository)
    files = {**plain.files, CARD: card.encode("utf-8")}
    return replace(plain, files=files)
