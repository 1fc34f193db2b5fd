"""Publishing on the Hub: one commit, then a tag, after every check that needs no upload.

A reader sees the revision before or the revision after, never a half: files become visible with the commit alone. A push
that was cut off is run again; what had arrived by then is not sent a second time.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from kollm.core.address import check_address, origin
from kollm.core.counting import counted
from kollm.core.errors import InputError, MissingKeyError, ServiceError, StateError
from kollm.core.files import file_sha256, read_object
from kollm.core.ownership import MARKERS, listed_files
from kollm.core.progress import say
from kollm.core.version import __version__
from kollm.hub.preparation import Names, prepare
from kollm.hub.publication import KINDS, Publication
from kollm.services.repository import Reference, check_repository_name, hub_errors

Change = Literal["new", "changed", "unchanged", "deleted", "kept"]

_OURS_TO_KEEP = (".gitattributes",)
_ALWAYS_THERE = (".gitattributes", "README.md", "LICENSE")


class Target(NamedTuple):
    """The repository as it is now.

    Attributes:
        head: its newest commit; None where there is no repository yet.
        files: its files and what identifies their content: SHA-256 of a large one, git's SHA-1 of a small one.
        tags: tag -> commit.
        pushed: names of the files that an earlier push brought: no others are deleted.
    """

    head: str | None
    files: Mapping[str, str]
    tags: Mapping[str, str]
    pushed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do to one repository. `target` is None where nobody asked the Hub (no token in a dry run)."""

    publication: Publication
    target: Target | None
    changes: Mapping[str, Change]
    tag: str

    @property
    def operations(self) -> list[CommitOperationAdd | CommitOperationDelete]:
        files = self.publication.files
        added = [name for name, change in self.changes.items() if change in ("new", "changed")]
        deleted = [name for name, change in self.changes.items() if change == "deleted"]
        return [
            *(CommitOperationAdd(name, files[name]) for name in added),
            *(CommitOperationDelete(name) for name in deleted),
        ]


class Published(NamedTuple):
    """What a push made: where, as which commit and tag, which files it sent, and the lines that use it."""

    repository: str
    commit: str
    tag: str
    sent: tuple[str, ...]
    snippet: str


def push(
    kind: str,
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    names: Names | None = None,
) -> list[Published]:
    """Publish a folder; an adapter on a toy base brings that base with it, as `ORG/NAME-base`.

    Args:
        kind: `dataset`, `adapter`, `model` or `metric`.
        folder: what to publish.
        repository: `ORG/NAME`.
        private: make the repository private; an existing public one is refused.
        tag: name of the tag; the next free `v1`, `v2`, ... by default.
        names: what stands in the card and cannot be read from the folder.

    Returns:
        What was made, the thing itself last.

    Raises:
        KollmError: any check that failed, before the first byte; or the Hub, or the line to it, failed later, in which
            case the revision before is still whole and the same command can be run again.
    """
    names = names or Names()
    plans = plan_push(kind, folder, repository, private=private, tag=tag, names=names)
    api = _api()
    done = [_publish(api, plan, private) for plan in plans[:-1]]
    last = plans[-1]
    if done:  # the adapter names its base by the commit that has just been made
        made = prepare(kind, folder, repository, names, base_commit=done[-1].commit)
        last = _plan(made, last.target, tag)
    return [*done, _publish(api, last, private)]


def plan_push(
    kind: str,
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    names: Names | None = None,
) -> list[Plan]:
    """Everything that `push` checks, and what it would do; nothing is sent.

    Raises:
        KollmError: as in `push`.
    """
    names = names or Names()
    if get_token():
        say(destination())
    chain = _chain(kind, folder, repository, names)
    api = _api()
    account = _account(api)
    plans: list[Plan] = []
    for item in chain:
        with _said(item):
            target = _target(api, item, account, private)
            _validate_card(api, item)
        if plans and not plans[0].operations and plans[0].target is not None:  # the base is there and unchanged
            item = prepare(kind, folder, repository, names, base_commit=plans[0].target.head)
        plans.append(_plan(item, target, tag))
    return plans


def plan_offline(
    kind: str, folder: Path, repository: str, *, tag: str | None = None, names: Names | None = None
) -> list[Plan]:
    """What `plan_push` says without asking the Hub, which takes a token: whatever is there would be sent.

    Raises:
        KollmError: a check that failed.
    """
    say(destination())
    return [_plan(item, None, tag) for item in _chain(kind, folder, repository, names or Names())]


def _chain(kind: str, folder: Path, repository: str, names: Names) -> list[Publication]:
    """What is published, in order: what the thing itself needs, then the thing."""
    publication = prepare(kind, folder, repository, names)
    return [item for item in (publication.needs, publication) if item is not None]


def destination() -> str:
    """Who gets the files and the token, in a sentence; a Hub that is not Hugging Face's is named as such.

    Raises:
        InputError: HF_ENDPOINT is no address, or one with a password.
    """
    where = check_address(str(_api().endpoint), "The address in HF_ENDPOINT")
    host = (urlsplit(where).hostname or "").rstrip(".").lower()
    token = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the token of `hf auth login`" if get_token() else ""
    said = f"Files{f' and {token}' if token else ', without a token,'} go to {origin(where)}"
    if host == "huggingface.co" or host.endswith(".huggingface.co"):
        return f"{said}." if where.startswith("https://") else f"{said}, UNENCRYPTED: HF_ENDPOINT has http."
    plain = "" if where.startswith("https://") else ", unencrypted"
    return f"{said}, which is NOT huggingface.co but what HF_ENDPOINT names{plain}."


def _api() -> HfApi:
    return HfApi(library_name="kollm", library_version=__version__)


# --- checks that ask the Hub ------------------------------------------------------------------------------------------


def _account(api: HfApi) -> Mapping[str, Any]:
    """Who the token belongs to.

    Raises:
        MissingKeyError: there is no token.
        InputError: it may only read.
        ServiceError: the Hub does not know it.
    """
    if not get_token():
        raise MissingKeyError("HF_TOKEN", "Publishing on the Hub")
    with hub_errors("model", Reference("whoami")):
        account: Mapping[str, Any] = api.whoami()
    if _token_role(account) == "read":
        raise InputError("This HF_TOKEN may only read - make one with write access in the Hub's settings.")
    return account


def _token_role(account: Mapping[str, Any]) -> str:
    return str(account.get("auth", {}).get("accessToken", {}).get("role", ""))


def _target(api: HfApi, publication: Publication, account: Mapping[str, Any], private: bool) -> Target:
    """The repository as it is, proven to be ours to write.

    Raises:
        InputError: it is not, or it holds something else.
    """
    kind, name = publication.kind, publication.repository
    try:
        info = api.repo_info(name, repo_type=kind.repo_type)
    except RepositoryNotFoundError:
        _check_namespace(name, account)
        return Target(None, {}, {})
    try:
        api.auth_check(name, repo_type=kind.repo_type, write=True)
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403, 404):
            raise
        raise InputError(
            f"The {kind.repo_type} '{name}' exists and this token may not write to it - choose another name."
        ) from error
    if private and not info.private:
        raise InputError(
            f"The {kind.repo_type} '{name}' exists and is public - make it private on its page, or drop --private."
        )
    files = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in api.list_repo_tree(name, repo_type=kind.repo_type, revision=info.sha, recursive=True)
        if isinstance(entry, RepoFile)
    }
    marker = kind.marker if kind.name != "metric" else f"{name.partition('/')[2]}.py"
    if marker not in files and set(files) - set(_ALWAYS_THERE):
        raise InputError(
            f"The {kind.repo_type} '{name}' exists and holds something else than a {kind.name} of kollm's - choose another name."
        )
    refs = api.list_repo_refs(name, repo_type=kind.repo_type)
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    return Target(info.sha, files, tags, _pushed(api, publication, files, str(info.sha)))


def _pushed(api: HfApi, publication: Publication, files: Mapping[str, str], head: str) -> frozenset[str]:
    """What the markers of the repository list: kollm pushed it; everything else is its owner's."""
    names: set[str] = set()
    for marker in set(MARKERS) & set(files):
        kind = publication.kind.repo_type
        path = api.hf_hub_download(publication.repository, marker, repo_type=kind, revision=head)
        names |= {marker, *(name for name, _ in listed_files(read_object(Path(path)).get("files")))}
    return frozenset(names & set(files))


def _check_namespace(repository: str, account: Mapping[str, Any]) -> None:
    """Refuse a new repository in a namespace that the token may not write in.

    Raises:
        InputError: it is another's, or outside the scope of a fine-grained token.
    """
    namespace = repository.partition("/")[0]
    own = [account["name"], *(org["name"] for org in account.get("orgs", ()) if org.get("roleInOrg") != "read")]
    if namespace not in own:
        raise InputError(f"'{namespace}' is not yours to publish under - this token belongs to {', '.join(own)}.")
    if _token_role(account) == "fineGrained":
        grants = account["auth"]["accessToken"].get("fineGrained", {}).get("scoped", ())
        scopes = [grant["entity"]["name"] for grant in grants if "repo.write" in grant["permissions"]]
        if namespace not in scopes:
            raise InputError(
                f"This HF_TOKEN may not make repositories under '{namespace}' - give it write access there in the Hub's settings."
            )


def _validate_card(api: HfApi, publication: Publication) -> None:
    """Have the Hub check the card's YAML, which it would otherwise refuse after the repository was made.

    Raises:
        InputError: the YAML is not what the Hub takes.
    """
    response = get_session().post(
        f"{api.endpoint}/api/validate-yaml",
        json={"content": publication.card, "repoType": publication.kind.repo_type},
        headers=build_hf_headers(library_name="kollm", library_version=__version__),
    )
    if response.status_code == 400:
        faults = "; ".join(str(fault.get("message")) for fault in response.json().get("errors", ()))
        raise InputError(f"The Hub does not take the card of '{publication.repository}' ({faults}) - mend its YAML.")
    hf_raise_for_status(response)


def find_target(kind_name: str, repository: str, private: bool = False) -> Target:
    """The repository as it is, proven to be ours to write, before there is anything to publish.

    Raises:
        KollmError: as in `push`.
    """
    check_repository_name(repository)
    publication = Publication(KINDS[kind_name], repository, {})
    api = _api()
    account = _account(api)
    with _said(publication):
        return _target(api, publication, account, private)


# --- what changes -----------------------------------------------------------------------------------------------------


def _plan(publication: Publication, target: Target | None, wanted: str | None) -> Plan:
    there = target.files if target is not None else {}
    changes: dict[str, Change] = {}
    for name, content in sorted(publication.files.items()):
        if name not in there:
            changes[name] = "new"
        else:
            changes[name] = "unchanged" if _same(content, there[name]) else "changed"
    for name in sorted(set(there) - set(publication.files) - set(_OURS_TO_KEEP)):
        changes[name] = "deleted" if target is not None and name in target.pushed else "kept"
    changed = any(change not in ("unchanged", "kept") for change in changes.values())
    return Plan(publication, target, changes, _choose_tag(target, wanted, changed))


def _same(content: Path | bytes, identity: str) -> bool:
    """Whether content has the identity that the Hub gave: a SHA-256, or git's SHA-1 of a blob."""
    if len(identity) == 64:
        digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)[7:]
        return digest == identity
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == identity


def _choose_tag(target: Target | None, wanted: str | None, changed: bool) -> str:
    """The tag asked for, the one that an unchanged head has already, or the next free `v` and number.

    Raises:
        InputError: the tag asked for is no tag, or names another revision.
    """
    tags = target.tags if target is not None else {}
    head = target.head if target is not None and not changed else None
    if wanted is not None:
        if not re.fullmatch(r"\w[\w.-]*", wanted):
            raise InputError(f"'{wanted}' is no name for a tag - use letters, digits, '.', '-' and '_'.")
        if wanted in tags and tags[wanted] != head:
            raise InputError(
                f"The tag '{wanted}' already names revision {tags[wanted][:12]} - choose another, e.g. {_next(tags)}."
            )
        return wanted
    at_head = sorted(tag for tag, commit in tags.items() if commit == head)
    return at_head[0] if at_head else _next(tags)


def _next(tags: Mapping[str, str]) -> str:
    numbers = [int(tag[1:]) for tag in tags if re.fullmatch(r"v\d+", tag)]
    return f"v{max(numbers, default=0) + 1}"


# --- sending ----------------------------------------------------------------------------------------------------------


def _publish(api: HfApi, plan: Plan, private: bool) -> Published:
    publication = plan.publication
    kind, name = publication.kind, publication.repository
    target = plan.target or Target(None, {}, {})
    with _said(publication):
        head = target.head
        if head is None:
            sdk = "gradio" if kind.repo_type == "space" else None
            api.create_repo(name, repo_type=kind.repo_type, private=private, space_sdk=sdk, exist_ok=True)
            head = str(api.repo_info(name, repo_type=kind.repo_type).sha)
        operations = plan.operations
        if operations:
            say(f"{name}: {counted(len(operations), 'file')} to send or delete")
            head = api.create_commit(
                name,
                operations,
                commit_message=f"{plan.tag}: {kind.name} published with kollm {__version__}",
                repo_type=kind.repo_type,
                parent_commit=head,
            ).oid
        if target.tags.get(plan.tag) != head:
            api.create_tag(name, tag=plan.tag, revision=head, repo_type=kind.repo_type)
    sent = tuple(operation.path_in_repo for operation in operations if isinstance(operation, CommitOperationAdd))
    return Published(name, head, plan.tag, sent, publication.snippet(plan.tag))


@contextmanager
def _said(publication: Publication) -> Iterator[None]:
    """Say in one sentence what the Hub, or the line to it, objects to."""
    reference = Reference(publication.repository)
    try:
        with hub_errors(publication.kind.repo_type, reference):
            try:
                yield
            except RuntimeError as error:  # huggingface_hub wraps what went wrong with one file
                if isinstance(error.__cause__, Exception):
                    raise error.__cause__ from error
                raise
            except ValueError as error:  # an answer of the Hub's upload service that is an error or makes no sense
                if isinstance(error, HfHubHTTPError):
                    raise
                reason = " ".join(str(error).split())
                raise ServiceError(
                    f"The Hub did not take the files of '{reference}' ({reason}) - try again later."
                ) from error
    except ServiceError as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code == 412:
            raise StateError(
                f"Somebody else has changed '{reference}' meanwhile - look at it, then push again."
            ) from error
        raise ServiceError(f"{error} What readers see is still whole.") from error


def listing(plans: Sequence[Plan]) -> Iterator[str]:
    """Lines for a dry run: every file with what would become of it, what is left out, and the card."""
    for plan in plans:
        publication = plan.publication
        where = "" if plan.target is not None else " (not compared with the Hub: no HF_TOKEN)"
        yield f"{publication.kind.repo_type} {publication.repository}, tag {plan.tag}{where}"
        for name, change in plan.changes.items():
            content = publication.files.get(name)
            size = f"{_size(content):>14,}" if content is not None else " " * 14
            yield f"  {change:<10}{size}  {name}"
        for name in publication.left_out:
            yield f"  {'left out':<10}{'':>14}  {name}"
        yield ""
        yield publication.card


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
