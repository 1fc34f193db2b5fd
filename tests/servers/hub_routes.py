"""The routes of the loopback Hub, as the clients' sources call them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.servers.hub_store import NAME, Account, Blob, HubError, Repository, check_card

if TYPE_CHECKING:
    from tests.servers.hub import LoopbackHub

PREFIXES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


class LineCutError(ConnectionAbortedError):
    """The connection was closed on purpose."""


Route = tuple[str, re.Pattern[str], Callable[..., None]]
ROUTES: list[Route] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a handler. `{kind}`, `{repo}` and `{rev}` stand for their patterns; what matches is passed by name."""
    for name, text in (("kind", "models|datasets|spaces"), ("repo", "[^/]+/[^/]+"), ("rev", "[^/]+")):
        pattern = pattern.replace(f"{{{name}}}", f"(?P<{name}>{text})")
    compiled = re.compile(pattern)

    def register(handler: Callable[..., None]) -> Callable[..., None]:
        for one in method.split():
            ROUTES.append((one, compiled, handler))
        return handler

    return register


class Handler(BaseHTTPRequestHandler):
    """One connection. The routes follow the clients' sources; each says what it takes and gives back."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def setup(self) -> None:
        self.connection = self.request
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.wire = self.hub.wire(self.connection)
        self.rfile, self.wfile = io.BufferedReader(self.wire, 65536), self.wire  # type: ignore[assignment]

    def handle(self) -> None:
        try:
            super().handle()
        except (LineCutError, ConnectionError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path, self.query = url.path, parse_qs(url.query)
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        try:
            self._meet_fault(path)
            self.body = self._read_body()
            for method, pattern, handler in ROUTES:
                match = pattern.fullmatch(path) if method == self.command else None
                if match:
                    with self.hub.lock:
                        handler(self, **{key: unquote(value or "") for key, value in match.groupdict().items()})
                    return
            self.hub.unexpected.append(f"no route: {self.command} {self.path}")
            raise HubError(501, f"No route: {self.command} {self.path}")
        except HubError as error:
            headers = {"X-Error-Message": error.message.split("\n")[0], **error.extra.pop("headers", {})}
            if error.code:
                headers["X-Error-Code"] = error.code
            if "commit" in error.extra:
                headers["X-Repo-Commit"] = error.extra.pop("commit")
            self.reply({"error": error.message, **error.extra}, error.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _meet_fault(self, path: str) -> None:
        for fault in self.hub.faults:
            if fault.times > 0 and fault.method == self.command and re.search(fault.path, path):
                fault.times -= 1
                if fault.status:
                    self._read_body()
                    raise HubError(fault.status, "A fault that the test asked for", headers=fault.headers)
                self.rfile.read(fault.after)
                self.wire.abort()

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HubError(400, "The body is not JSON") from error

    def reply(self, content: Any = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and data:
            self.wfile.write(data)

    # Who asks, and for what

    def account(self) -> Account | None:
        """Whose token came with the request; None without one."""
        value = self.headers.get("Authorization", "")
        if not value:
            return None
        token = value.removeprefix("Bearer ")
        if token not in self.hub.accounts:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.hub.accounts[token]

    def readable(self, kind: str, repo: str, content: bool = False) -> Repository:
        """The repository, if the account may see it (and, for `content`, its files)."""
        account, found = self.account(), self.hub.repositories.get((kind, repo))
        if found is None or (found.private and (account is None or not _belongs(account, found))):
            raise HubError(401 if account is None else 404, "Repository not found", "RepoNotFound")
        inside = account is not None and (_belongs(account, found) or account.name in (found.gated or ()))
        if content and found.gated is not None and not inside:
            raise HubError(401 if account is None else 403, f"Access to {kind[:-1]} {repo} is restricted.", "GatedRepo")
        return found

    def writable(self, kind: str, repo: str) -> Repository:
        found, account = self.readable(kind, repo), self.account()
        if account is None:
            raise HubError(401, "Invalid username or password.")
        if not account.may_write(found.namespace):
            raise HubError(403, f"You do not have write access to {kind[:-1]} {repo}")
        return found

    # Accounts and repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        account = self.account()
        if account is None:
            raise HubError(401, "Invalid username or password.")
        token: dict[str, Any] = {"displayName": "test", "role": account.role}
        if account.role == "fineGrained":
            token["fineGrained"] = {
                "scoped": [
                    {"entity": {"type": "user", "name": name}, "permissions": ["repo.write"]} for name in account.scopes
                ]
            }
        orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in account.orgs]
        auth = {"type": "access_token", "accessToken": token}
        self.reply({"type": "user", "name": account.name, "orgs": orgs, "auth": auth})

    @route("POST", "/api/repos/create")
    def create(self) -> None:
        wanted, account = self.json(), self.account()
        kind = wanted.get("type", "model") + "s"
        if account is None:
            raise HubError(401, "Invalid username or password.")
        namespace = wanted.get("organization") or account.name
        if (
            kind not in PREFIXES
            or not NAME.fullmatch(wanted["name"])
            or "--" in wanted["name"]
            or ".." in wanted["name"]
        ):
            raise HubError(400, f"Invalid repo name: {namespace}/{wanted['name']}")
        if not account.may_write(namespace):
            raise HubError(403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"')
        name = f"{namespace}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{PREFIXES[kind]}{name}"
        if (kind, name) in self.hub.repositories:
            raise HubError(409, f"You already created this {kind[:-1]} repo", url=url)
        if kind == "spaces" and wanted.get("sdk") not in ("gradio", "static", "docker"):
            raise HubError(400, "A Space needs an sdk")
        private = wanted.get("visibility") == "private"
        self.hub.repositories[kind, name] = Repository(kind, name, private, sdk=wanted.get("sdk", ""))
        self.reply({"url": url, "name": name, "id": name})

    @route("GET", "/api/{kind}/{repo}/auth-check(?P<write>/write)?")
    def auth_check(self, kind: str, repo: str, write: str) -> None:
        self.writable(kind, repo) if write else self.readable(kind, repo, content=True)
        self.reply({})

    @route("GET", "/api/{kind}/{repo}(?:/revision/{rev})?")
    def repo_info(self, kind: str, repo: str, rev: str) -> None:
        self.reply(self.readable(kind, repo).info(rev or "main", "blobs" in self.query))

    @route("GET", "/api/{kind}/{repo}/refs")
    def refs(self, kind: str, repo: str) -> None:
        found = self.readable(kind, repo)
        lists = {
            name: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": oid} for ref, oid in refs.items()]
            for name, folder, refs in (("branches", "heads", found.branches), ("tags", "tags", found.tags))
        }
        self.reply({**lists, "converts": []})

    @route("GET", "/api/{kind}/{repo}/commits/{rev}")
    def commits(self, kind: str, repo: str, rev: str) -> None:
        found = self.readable(kind, repo)
        commit, rows = found.at(rev), []
        while True:
            rows.append(
                {"id": commit.oid, "title": commit.title, "message": "", "authors": [], "date": "2026-01-01T00:00:00Z"}
            )
            if not commit.parent:
                break
            commit = found.commits[commit.parent]
        self.reply(rows)

    @route("POST", "/api/{kind}/{repo}/tag/{rev}")
    def tag(self, kind: str, repo: str, rev: str) -> None:
        self.writable(kind, repo).tag(self.json()["tag"], rev)
        self.reply({})

    # Reading

    @route("GET", "/api/{kind}/{repo}/tree/{rev}(?:/(?P<path>[^/]+))?")
    def tree(self, kind: str, repo: str, rev: str, path: str) -> None:
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        entries = self.readable(kind, repo).tree(rev, path, recursive)
        start = int(self.query.get("cursor", ["0"])[0])
        end, headers = start + self.hub.page_size, {}
        if end < len(entries):
            query = f"recursive={str(recursive).lower()}&cursor={end}"
            headers["Link"] = f'<{self.hub.endpoint}{urlsplit(self.path).path}?{query}>; rel="next"'
        self.reply(entries[start:end], headers=headers)

    @route("POST", "/api/{kind}/{repo}/paths-info/{rev}")
    def paths_info(self, kind: str, repo: str, rev: str) -> None:
        paths = parse_qs(self.body.decode()).get("paths", [])
        self.reply(self.readable(kind, repo).paths_info(rev, paths))

    @route("GET HEAD", "/(?:(?P<kind>datasets|spaces)/)?{repo}/resolve/{rev}/(?P<path>.+)")
    def resolve(self, kind: str, repo: str, rev: str, path: str) -> None:
        """Both kinds of file are answered with a redirect: a small one's stays on the Hub, a large one's leaves it."""
        kind = kind or "models"
        found = self.readable(kind, repo, content=True)
        commit, blob = found.file(rev, path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"'}
        if blob.lfs:
            headers |= {"X-Linked-Size": str(len(blob.content)), "X-Linked-Etag": f'"{blob.sha256}"'}
            target = f"{self.hub.storage}/storage/{kind}/{repo}/{blob.sha256}"
            self.reply(status=302, headers={**headers, "Location": target})
        else:
            target = f"/api/resolve-cache/{kind}/{repo}/{commit.oid}/{quote(path)}"
            self.reply(status=307, headers={**headers, "Location": target})

    @route("GET HEAD", "/api/resolve-cache/{kind}/{repo}/{rev}/(?P<path>.+)")
    def small_file(self, kind: str, repo: str, rev: str, path: str) -> None:
        commit, blob = self.readable(kind, repo, content=True).file(rev, path)
        self._send_file(blob, {"X-Repo-Commit": commit.oid})

    @route("GET HEAD", "/storage/{kind}/{repo}/(?P<oid>[0-9a-f]{64})")
    def large_file(self, kind: str, repo: str, oid: str) -> None:
        self._refuse_token()
        self._send_file(Blob(self.hub.repositories[kind, repo].large[oid], lfs=True), {})

    def _send_file(self, blob: Blob, headers: dict[str, str]) -> None:
        """The file, or the range of it that was asked for."""
        content, size = blob.content, len(blob.content)
        headers = {**headers, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.reply(content, headers=headers)
            return
        first, last = asked.groups()
        start = int(first) if first else size - int(last)
        end = min(int(last) + 1 if first and last else size, size)
        if start >= size:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
        self.reply(content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})

    # Writing

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        asked = self.json()
        check_card(asked["content"], asked["repoType"] + "s")
        self.reply({"warnings": [], "errors": []})

    @route("POST", "/api/{kind}/{repo}/preupload/{rev}")
    def preupload(self, kind: str, repo: str, rev: str) -> None:
        found = self.writable(kind, repo)
        if rev not in found.branches:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        self.reply({"files": found.preupload(self.json()["files"]), "commitOid": found.head.oid})

    @route("POST", "/(?:(?P<kind>datasets|spaces)/)?{repo}\\.git/info/lfs/objects/batch")
    def batch(self, kind: str, repo: str) -> None:
        kind = kind or "models"
        found, asked, objects = self.writable(kind, repo), self.json(), []
        if asked["operation"] != "upload" or asked["hash_algo"] != "sha256":
            raise HubError(400, "Only uploads by sha256")
        for item in asked["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in found.large:
                entry["actions"] = self._upload_actions(kind, repo, item)
            objects.append(entry)
        self.reply({"transfer": "basic", "objects": objects})

    def _upload_actions(self, kind: str, repo: str, item: dict[str, Any]) -> dict[str, Any]:
        target = f"{self.hub.storage}/storage/{kind}/{repo}/{item['oid']}"
        verify = {"href": f"{self.hub.endpoint}/api/{kind}/{repo}/verify"}
        if item["size"] <= self.hub.part_size:
            return {"upload": {"href": target, "header": {}}, "verify": verify}
        count = -(-item["size"] // self.hub.part_size)
        header = {str(number): f"{target}/parts/{number}" for number in range(1, count + 1)}
        header["chunk_size"] = str(self.hub.part_size)
        return {"upload": {"href": f"{target}/complete", "header": header}, "verify": verify}

    @route("PUT", "/storage/{kind}/{repo}/(?P<oid>[0-9a-f]{64})")
    def upload(self, kind: str, repo: str, oid: str) -> None:
        self._refuse_token()
        self._store(kind, repo, oid, self.body)
        self.reply(headers={"ETag": f'"{oid[:32]}"'})

    @route("PUT", "/storage/{kind}/{repo}/(?P<oid>[0-9a-f]{64})/parts/(?P<number>\\d+)")
    def upload_part(self, kind: str, repo: str, oid: str, number: str) -> None:
        self._refuse_token()
        self.hub.parts[oid, int(number)] = self.body
        self.reply(headers={"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    @route("POST", "/storage/{kind}/{repo}/(?P<oid>[0-9a-f]{64})/complete")
    def complete(self, kind: str, repo: str, oid: str) -> None:
        parts = [self.hub.parts.pop((oid, part["partNumber"]), None) for part in self.json()["parts"]]
        if None in parts:
            raise HubError(400, "A part is missing")
        self._store(kind, repo, oid, b"".join(part for part in parts if part is not None))
        self.reply({})

    def _store(self, kind: str, repo: str, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubError(400, "The content does not have the announced SHA-256")
        self.hub.repositories[kind, repo].large[oid] = content
        self.hub.uploads.append(oid)

    @route("POST", "/api/{kind}/{repo}/verify")
    def verify(self, kind: str, repo: str) -> None:
        found, asked = self.writable(kind, repo), self.json()
        if len(found.large.get(asked["oid"], b"")) != asked["size"]:
            raise HubError(400, "Size mismatch")
        self.reply({})

    @route("POST", "/api/{kind}/{repo}/commit/{rev}")
    def commit(self, kind: str, repo: str, rev: str) -> None:
        found = self.writable(kind, repo)
        if rev not in found.branches:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        commit = found.commit([json.loads(line) for line in self.body.splitlines()])
        url = f"{self.hub.endpoint}/{PREFIXES[kind]}{repo}/commit/{commit.oid}"
        self.reply({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    # What clients also ask for, without which they work

    @route("HEAD", "/api/telemetry/.+")
    def telemetry(self) -> None:
        self.reply()

    @route("GET", "/api/agent-harnesses")
    def agent_harnesses(self) -> None:
        raise HubError(404, "Not offered here")

    def _refuse_token(self) -> None:
        if self.headers.get("Authorization"):
            self.hub.unexpected.append(f"a token was sent to the storage host: {self.command} {self.path}")
            raise HubError(400, "Only one auth mechanism allowed")


def _belongs(account: Account, repository: Repository) -> bool:
    return repository.namespace in (account.name, *account.orgs)
