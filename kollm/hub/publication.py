"""What is published of a folder: its files, its card and the snippet that uses it; and the checks that every kind passes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import get_token
from pydantic import BaseModel, TypeAdapter

from kollm.core.errors import InputError
from kollm.core.reading import conforming, decode, shown
from kollm.dataset.folder import CARD, MANIFEST
from kollm.hub.lineage import front_matter
from kollm.hub.secrets import environment_secrets, find_secrets
from kollm.services.repository import RepoType
from kollm.services.weights import safetensors_header


class Kind(NamedTuple):
    """A kind of thing that can be published.

    Attributes:
        repo_type: what the Hub calls its repository.
        marker: the file that makes a folder one of this kind.
        suffixes: of the files that belong to it; anything else is refused rather than published unseen.
    """

    name: str
    repo_type: RepoType
    marker: str
    suffixes: tuple[str, ...]


_WEIGHTS = (".safetensors", ".json", ".jinja", ".txt", ".model", ".yaml", ".md", ".png")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("dataset", "dataset", MANIFEST, (".parquet", ".json", ".md", ".png")),
        Kind("adapter", "model", "adapter_config.json", _WEIGHTS),
        Kind("model", "model", "config.json", _WEIGHTS),
        Kind("metric", "space", "requirements.txt", (".py", ".md", ".txt", ".json", ".yaml")),
    )
}

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".npy", ".npz", ".msgpack")
_SKIPPED = ("__pycache__", "checkpoints", "outbox", "trackio", "tensorboard", "wandb", "mlruns")


@dataclass(frozen=True, slots=True)
class Publication:
    """Files for one repository, by their path in it; what is no longer as on disk is given as bytes."""

    kind: Kind
    repository: str
    files: Mapping[str, Path | bytes]
    left_out: tuple[str, ...] = ()
    needs: Publication | None = None
    """What must be published before it: the toy base of an adapter."""

    @property
    def card(self) -> str:
        return decode(as_bytes(self.files[CARD]), CARD)

    def snippet(self, revision: str) -> str:
        """Lines that use it, pinned to a revision."""
        return _SNIPPETS[self.kind.name].format(repository=self.repository, revision=revision)


_SNIPPETS = {
    "dataset": """from datasets import load_dataset

rows = load_dataset("{repository}", revision="{revision}")
""",
    "adapter": """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repository}", revision="{revision}")
model = AutoPeftModelForCausalLM.from_pretrained("{repository}", revision="{revision}")
""",
    "model": """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repository}", revision="{revision}")
model = AutoModelForCausalLM.from_pretrained("{repository}", revision="{revision}")
""",
    "metric": """import evaluate

judge = evaluate.load("{repository}", "kullm2023", revision="{revision}")
""",
}


def as_bytes(content: Path | bytes) -> bytes:
    """A file's content, from the disk where that is where it is."""
    return content if isinstance(content, bytes) else content.read_bytes()


def gather(kind: Kind, folder: Path, repository: str) -> Publication:
    """The files of a folder as they are, without those of training and caches.

    Raises:
        InputError: the folder is not of the kind, or holds something that is not published.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder - name the folder of the {kind.name}.")
    if not (folder / kind.marker).is_file():
        raise InputError(f"'{folder}' is no {kind.name} folder: it has no {kind.marker} - check the path and the kind.")
    files: dict[str, Path | bytes] = {}
    left_out = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not name.isprintable():
            raise InputError(f"'{folder}' holds {name!r}, a name that cannot be shown - rename it.")
        if path.is_symlink():
            raise InputError(
                f"'{path}' is a link, and nothing outside the folder is published - put the file itself there, or remove it."
            )
        if not path.is_file():
            continue
        if any(part in _SKIPPED or part.startswith(".") for part in name.split("/")):
            left_out.append(name)
        elif path.suffix in _PICKLES:
            raise InputError(
                f"'{path}' may hold pickled code and only safetensors are published - save it as safetensors or remove it."
            )
        elif path.suffix not in kind.suffixes:
            raise InputError(f"'{path}' is no file of a {kind.name} - remove it from the folder.")
        else:
            files[name] = path
            if path.suffix == ".safetensors":
                safetensors_header(path)
    return Publication(kind, repository, files, tuple(left_out))


def check_card(publication: Publication) -> None:
    """Refuse a card without YAML, or whose configs name files that are not there.

    Raises:
        InputError: it is such a card.
    """
    front = front_matter(publication.card)
    if not front:
        raise InputError(
            f"The card of the {publication.kind.name} has no YAML at its head, which the Hub reads - write it."
        )
    where = "The YAML at the head of the card"
    configs = conforming(TypeAdapter(list[_Config] | None), front.get("configs"), where, "mend its configs")
    for config in configs or ():
        for part in config.data_files:
            for glob in [part.path] if isinstance(part.path, str) else part.path:
                if not any(Path(name).match(glob) for name in publication.files if glob):
                    raise InputError(
                        f"The card's config '{config.config_name}' names {shown(glob)}, and no file is called so - mend it."
                    )


class _DataFiles(BaseModel):
    path: str | list[str]


class _Config(BaseModel):
    config_name: str
    data_files: list[_DataFiles]


def check_secrets(publication: Publication, folder: Path, allowed: tuple[str, ...]) -> None:
    """Refuse keys, tokens, and paths that tell about this machine.

    Raises:
        InputError: something of the kind stands in a file; the message says where, and not what.
    """
    hidden = environment_secrets(os.environ)
    token = get_token()
    if token:  # also one that was saved by a log-in
        hidden["your token of the Hub"] = token
    places = {
        "the folder's own path": folder.resolve(),
        "a path beside it": folder.resolve().parent,
        "your home": Path.home(),
    }
    hidden |= {what: f"{path}/" for what, path in places.items() if len(path.parts) > 2}  # /tmp alone tells nothing
    found = [finding for finding in find_secrets(publication.files, hidden) if finding.place not in allowed]
    if found:
        shown = "; ".join(f"{finding.place} ({finding.kind})" for finding in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(
            f"What looks like a secret stands in {shown}{more} - remove it, or say that it is none with --allow '{found[0].place}'."
        )
