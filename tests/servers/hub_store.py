"""What the loopback Hub keeps: accounts, repositories, commits, tags and large files, all in memory.

It refuses what the real Hub refuses, so that a client that sends something wrong is found here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".arrow", ".gz", ".zip", ".npz", ".model", ".pt", ".pkl")
LFS_BYTES = 10_000_000
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
LICENCES = {
    "apache-2.0",
    "mit",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "other",
    "unknown",
}


class HubError(Exception):
    """An answer other than success: status, the Hub's error code, its message."""

    def __init__(self, status: int, message: str, code: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token belongs to. `role` is `read`, `write` or `fineGrained` (which may write in `scopes` only)."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        if self.role == "fineGrained":
            return namespace in self.scopes
        return self.role == "write" and namespace in (self.name, *self.orgs)


@dataclass(frozen=True, slots=True)
class Blob:
    """One file's content; a large one is stored outside git and known by its SHA-256."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def oid(self) -> str:
        data = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def describe(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "oid": self.oid, "size": len(self.content), "path": path}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


@dataclass(frozen=True, slots=True)
class Commit:
    oid: str
    parent: str
    title: str
    files: dict[str, Blob]


@dataclass(slots=True)
class Repository:
    """One repository: its commits by id, its branches and tags."""

    kind: str
    id: str
    private: bool = False
    gated: tuple[str, ...] | None = None
    """Names of the accounts let in; None for a repository that is not gated."""
    sdk: str = ""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commits:
            self._add("initial commit", {".gitattributes": Blob(GITATTRIBUTES)})

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    def _add(self, title: str, files: dict[str, Blob]) -> Commit:
        parent = self.branches.get("main", "")
        listing = "".join(f"{path}\0{blob.oid}\n" for path, blob in sorted(files.items()))
        oid = hashlib.sha1(
            f"{self.kind}/{self.id}\n{parent}\n{len(self.commits)}\n{title}\n{listing}".encode()
        ).hexdigest()
        commit = Commit(oid, parent, title, files)
        self.commits[oid] = commit
        self.branches["main"] = oid
        return commit

    def rewind(self, oid: str) -> None:
        """Back to how it was when `oid` was the head: later commits, their tags and their large files are forgotten."""
        kept: dict[str, Commit] = {}
        while oid:
            kept[oid] = self.commits[oid]
            oid = kept[oid].parent
        self.commits, self.branches["main"] = kept, next(iter(kept))
        self.tags = {tag: commit for tag, commit in self.tags.items() if commit in kept}
        blobs = [blob for commit in kept.values() for blob in commit.files.values() if blob.lfs]
        self.large = {blob.sha256: blob.content for blob in blobs}

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a commit id names."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def file(self, revision: str, path: str) -> tuple[Commit, Blob]:
        commit = self.at(revision)
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", commit=commit.oid)
        return commit, commit.files[path]

    def tree(self, revision: str, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The entries under a folder, folders among them, ordered by path."""
        commit = self.at(revision)
        prefix = folder.rstrip("/") + "/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                name = prefix + "/".join(parts[:depth])
                entries.setdefault(name, self._folder(commit, name))
            if recursive or len(parts) == 1:
                entries[path] = blob.describe(path)
        if folder and not entries:
            raise HubError(404, f'"{folder}" does not exist on "{revision}"', "EntryNotFound")
        return list(entries.values())

    def paths_info(self, revision: str, paths: list[str]) -> list[dict[str, Any]]:
        commit, found = self.at(revision), []
        for path in paths:
            if path in commit.files:
                found.append(commit.files[path].describe(path))
            elif any(name.startswith(path + "/") for name in commit.files):
                found.append(self._folder(commit, path))
        return found

    @staticmethod
    def _folder(commit: Commit, path: str) -> dict[str, Any]:
        inside = sorted((name, blob.oid) for name, blob in commit.files.items() if name.startswith(path + "/"))
        return {"type": "directory", "oid": hashlib.sha1(repr(inside).encode()).hexdigest(), "size": 0, "path": path}

    def preupload(self, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """How each file is to be sent, and the id of what is there now."""
        answers = []
        for file in files:
            sample = base64.b64decode(file["sample"], validate=True)
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_BYTES or b"\0" in sample
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            known = self.head.files.get(file["path"])
            if known is not None:
                answer["oid"] = known.etag
            answers.append(answer)
        return answers

    def commit(self, lines: list[dict[str, Any]]) -> Commit:
        """Apply the lines of one commit request; all of them or none."""
        if not lines or lines[0].get("key") != "header" or not lines[0]["value"].get("summary"):
            raise HubError(400, "The first line must be the header with a summary")
        header, files = lines[0]["value"], dict(self.head.files)
        if header.get("parentCommit") not in (None, self.head.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            self._apply(line["key"], line["value"], files)
        if "README.md" in files and files["README.md"] != self.head.files.get("README.md"):
            check_card(files["README.md"].content.decode("utf-8"), self.kind)
        return self._add(header["summary"], files)

    def _apply(self, key: str, value: dict[str, Any], files: dict[str, Blob]) -> None:
        path = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise HubError(400, f"Invalid path {path}")
        if key == "file":
            content = base64.b64decode(value["content"], validate=True)
            if len(content) > LFS_BYTES or path.endswith(LFS_SUFFIXES):
                raise HubError(400, f"{path} must be sent as a large file")
            files[path] = Blob(content)
        elif key == "lfsFile":
            if value["algo"] != "sha256" or value["oid"] not in self.large:
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            files[path] = Blob(self.large[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise HubError(400, f"Unknown operation {key}")

    def tag(self, name: str, revision: str) -> None:
        if not re.fullmatch(r"[\w][\w./-]*", name):
            raise HubError(400, f"Invalid tag name {name}")
        if name in self.tags:
            raise HubError(409, "Tag reference exists already")
        self.tags[name] = self.at(revision).oid

    def info(self, revision: str, blobs: bool) -> dict[str, Any]:
        """What `/api/{kind}/{id}` answers."""
        commit = self.at(revision)
        siblings = []
        for path, blob in sorted(commit.files.items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if blobs:
                sibling |= {"size": len(blob.content), "blobId": blob.oid}
                if blob.lfs:
                    sibling["lfs"] = {
                        "size": len(blob.content),
                        "sha256": blob.sha256,
                        "pointerSize": len(blob.pointer),
                    }
            siblings.append(sibling)
        card = commit.files.get("README.md")
        return {
            "_id": hashlib.sha1(self.id.encode()).hexdigest()[:24],
            "id": self.id,
            "author": self.namespace,
            "sha": commit.oid,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "private": self.private,
            "gated": "manual" if self.gated is not None else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": check_card(card.content.decode("utf-8"), self.kind) if card else None,
            "siblings": siblings,
        }


def check_card(text: str, kind: str) -> dict[str, Any]:
    """The YAML at the head of a README.md, checked as the Hub checks it.

    Raises:
        HubError: not YAML, not a mapping, an unknown licence, or a dataset's configs that are not well formed.
    """
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", text, re.DOTALL)
    if match is None:
        return {}
    try:
        card = yaml.safe_load(match.group(1))
    except yaml.YAMLError as error:
        raise HubError(400, "Invalid metadata in README.md", errors=[{"message": str(error)}]) from error
    faults = []
    if not isinstance(card, dict):
        card, faults = {}, ["the metadata must be a mapping"]
    licence = card.get("license", "unknown")
    if licence not in LICENCES:
        faults.append(f'"license" must be one of the identifiers, not {licence!r}')
    if licence == "other" and not card.get("license_name"):
        faults.append('"license_name" is required where "license" is "other"')
    if kind == "datasets":
        for config in card.get("configs") or []:
            if not isinstance(config.get("config_name"), str) or "data_files" not in config:
                faults.append('"configs" needs config_name and data_files')
    if kind == "spaces" and card.get("sdk") not in ("gradio", "static", "docker"):
        faults.append('"sdk" must be gradio, static or docker')
    for language in (
        [card.get("language") or []] if isinstance(card.get("language"), str) else card.get("language") or []
    ):
        if not re.fullmatch(r"[a-z]{2,3}|multilingual|code", str(language)):
            faults.append(f'"language" must hold ISO 639 codes, not {language!r}')
    if faults:
        raise HubError(400, "Invalid metadata in README.md", errors=[{"message": fault} for fault in faults])
    return card
