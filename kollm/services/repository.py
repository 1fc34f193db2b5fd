"""Repositories by name: `ORG/NAME` or `ORG/NAME@REVISION`, downloaded once, and then there without a network.

What was pulled is known by its commit hash, which goes into fingerprints and records; a branch or tag may move.
Nearly every command and every worker of a build imports this file and few ask the Hub, so that its client, a seventh of
what a worker's start takes, is imported where it is used.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from kollm.core.errors import InputError, ServiceError
from kollm.core.ownership import restore
from kollm.core.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

RepoType = Literal["model", "dataset", "space"]

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.yaml", "*.md", "*.jsonl")
"""What is taken of a model's repository beside its weights: configuration, tokenizer and card, no code."""
MODEL_FILES = ("*.safetensors", *SMALL_FILES)
"""What is taken of a model's repository: no pickled weights and no code."""

_REVISION = re.compile(r"[\w][\w./-]*")


class Reference(NamedTuple):
    """A repository and, where one was named, its branch, tag or commit."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


class Pulled(NamedTuple):
    """A repository's files on this machine, and the commit that they are."""

    folder: Path
    repository: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}"


class Located(NamedTuple):
    """Files on this machine, and the name to record for them: the folder as it was given, or `ORG/NAME@COMMIT`."""

    folder: Path
    name: str


def locate(folder_or_name: str | Path, kind: RepoType, revision: str | None = None, *, weights: bool = True) -> Located:
    """A folder as it is, or a repository pulled, a model's without its weights where these are not wanted.

    Raises:
        InputError: it is neither a folder nor a repository that this token may read.
        ServiceError: the Hub cannot be reached and the cache does not hold it.
    """
    name = str(folder_or_name)
    restore(Path(name).absolute())
    if Path(name).is_dir():
        return Located(Path(name), name)
    if name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"There is no folder '{name}', and it is no name on the Hub - check the path, or write ORG/NAME."
        )
    pulled = pull(name, kind, revision, weights=weights)
    return Located(pulled.folder, str(pulled))


def parse_reference(text: str) -> Reference:
    """Read `ORG/NAME` or `ORG/NAME@REVISION`.

    Raises:
        InputError: it is neither.
    """
    repository, at, revision = text.partition("@")
    check_repository_name(repository)
    if at and not _REVISION.fullmatch(revision):
        raise InputError(f"'{text}' names no revision after '@' - write ORG/NAME@TAG, or a branch or commit hash.")
    return Reference(repository, revision if at else None)


def check_repository_name(name: str) -> None:
    """Refuse what the Hub would not take as `ORG/NAME`.

    Raises:
        InputError: it would not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    rules = "write ORG/NAME with letters, digits, '-', '_' and '.', at most 96 characters"
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"'{name}' is no repository name - {rules}.")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"'{name}' is no repository name that the Hub takes - {rules}.") from error


def pull(name: str, kind: RepoType, revision: str | None = None, *, weights: bool = True) -> Pulled:
    """Download a repository, or find it in the cache, and say which commit it is.

    Args:
        name: `ORG/NAME` or `ORG/NAME@REVISION`.
        kind: `dataset`, `model` (weights as safetensors and no code) or `space`.
        revision: where `name` has none; `main` by default.
        weights: whether a model's weights are taken too; its other files are small.

    Raises:
        InputError: not a name, or no such repository or revision that this token may read.
        ServiceError: the Hub cannot be reached and the cache does not hold it.
    """
    import httpx2
    from huggingface_hub import HfApi

    reference = parse_reference(name)
    wanted = reference.revision or revision
    download = functools.partial(
        HfApi(library_name="kollm", library_version=__version__).snapshot_download,
        reference.repository,
        repo_type=kind,
        revision=wanted,
        allow_patterns=list(MODEL_FILES if weights else SMALL_FILES) if kind == "model" else None,
    )
    with hub_errors(kind, Reference(reference.repository, wanted)):
        try:
            folder = download()
        except httpx2.TransportError:  # huggingface_hub falls back by itself on some of these, not on all
            folder = download(local_files_only=True)
    return Pulled(Path(folder), reference.repository, Path(folder).name)


def find_on_hub(name: str, kind: RepoType, revision: str | None = None, seconds: float = 5.0) -> None:
    """Find out whether a repository is in the cache or on the Hub; nothing is downloaded.

    Args:
        name: `ORG/NAME` or `ORG/NAME@REVISION`.
        kind: `dataset`, `model` or `space`.
        revision: where `name` has none.
        seconds: how long the Hub may take.

    Raises:
        InputError: not a name, or no such repository or revision that this token may read.
        ServiceError: the Hub cannot be reached and the cache does not hold it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalEntryNotFoundError

    reference = parse_reference(name)
    wanted = reference.revision or revision
    api = HfApi(library_name="kollm", library_version=__version__)
    with hub_errors(kind, Reference(reference.repository, wanted)):
        try:
            api.snapshot_download(reference.repository, repo_type=kind, revision=wanted, local_files_only=True)
        except LocalEntryNotFoundError:
            api.repo_info(reference.repository, repo_type=kind, revision=wanted, timeout=seconds)


@contextmanager
def hub_errors(kind: RepoType, reference: Reference) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence of ours."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"{kind} '{reference}'"
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"The {what} is gated and this token is not on its list - ask for access on its page, then set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"The {kind} '{reference.repository}' has no revision '{reference.revision}' - name a tag, branch or commit that it has."
        ) from error
    except RepositoryNotFoundError as error:
        whose = "your token" if os.environ.get("HF_TOKEN") else "a request without HF_TOKEN"
        raise InputError(
            f"There is no {what} on the Hub that {whose} may read - check the name and the token."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ServiceError(
            f"The {what} is not in the cache and the Hub cannot be reached - connect once, or unset HF_HUB_OFFLINE."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ServiceError(f"The {what} needs the Hub, and HF_HUB_OFFLINE is set - unset it.") from error
    except HfHubHTTPError as error:
        raise ServiceError(_explain(error, what)) from error
    except httpx2.ConnectError as error:
        raise ServiceError(
            f"The Hub cannot be reached for the {what} ({error or type(error).__name__}) - check the network, or name files of "
            "this machine."
        ) from error
    except httpx2.HTTPError as error:
        raise ServiceError(
            f"The connection to the Hub broke at the {what} ({error or type(error).__name__}) - run the same command again."
        ) from error


def _explain(error: HfHubHTTPError, what: str) -> str:
    status = error.response.status_code
    if status == 401:
        return "The Hub does not know this token - set HF_TOKEN to one that is valid, or log in with `hf auth login`."
    if status == 403:
        return f"The Hub refuses this token for the {what} ({error.server_message or 'no access'}) - use another token."
    if status == 429:
        return f"The Hub's rate limit is reached on the {what} - wait some minutes and run the same command again."
    return f"The Hub answered {status} for the {what} ({error.server_message or 'no reason given'}) - try again later."
