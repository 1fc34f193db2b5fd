"""What SECURITY.md promises of keys: each goes to its own host alone, who gets what is said first, and no password of an
address is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kollm.cli import main
from kollm.core.address import check_address, origin, without_password
from kollm.core.errors import InputError, MissingKeyError, RecipeError, ServiceError
from kollm.recipe.load import load_recipe
from kollm.run.destinations import destinations
from kollm.services import endpoint as endpoints
from kollm.services.chat import ChatClient, ChatRequest, ChatService, run_async
from kollm.services.endpoint import chat_endpoint, check_recipe_address, deepl_endpoint, own_variable
from kollm.services.ledger import Ledger
from kollm.services.retry import RetryPolicy
from kollm.translate.deepl import DeepLTranslator
from tests.hub.folders import make_dataset
from tests.servers.chat import completion
from tests.servers.loopback import JsonHandler, Loopback

OPENAI, DEEPL, OTHER = "sk-of-openai", "of-deepl:fx", "of-another"
VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DEEPL_AUTH_KEY", "DEEPL_SERVER_URL", "OPENAI_ORG_ID")


class Listener(Loopback):
    """A host that writes down what it gets; it answers like a chat service, or sends on to another address."""

    def __init__(self, sends_on: str = "") -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        heard = self.heard

        class Handler(JsonHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server finds it by this name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                onward = {"Location": f"{sends_on}/chat/completions"} if sends_on else {}
                self.reply(307 if sends_on else 200, completion("m"), onward)

        super().__init__(Handler)

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"


@pytest.fixture
def stranger() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI)
    monkeypatch.setenv("DEEPL_AUTH_KEY", DEEPL)
    monkeypatch.setenv("KOLLM_LEDGER", str(tmp_path / "ledger.sqlite3"))
    monkeypatch.setattr(endpoints, "_announced", set())


def run(*arguments: str) -> int:
    """The exit code of a command."""
    try:
        main(list(arguments))
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def ask(tmp_path: Path, **options: object) -> str:
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        client = ChatClient(ChatService("m", retry=RetryPolicy(tries=1), **options), kind="judge", ledger=ledger)  # type: ignore[arg-type]
        (reply,) = run_async(client.all([ChatRequest([{"role": "user", "content": "안녕"}], {})]))
    return str(reply.text)


def test_openais_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (None, "https://api.openai.com/v1/", "https://eu.api.openai.com/v1", "HTTPS://API.OPENAI.COM:443/v1"):
        assert chat_endpoint(url).key == OPENAI
    for url in (
        "http://api.openai.com/v1",
        "https://api.openai.com.example.net/v1",
        "https://notopenai.com/v1",
        "https://openai/v1",
        "http://openai:8000/v1",
        "http://localhost:8000/v1",
        "https://api.deepl.com.example.net",
    ):
        assert chat_endpoint(url).key == ""
    with pytest.raises(MissingKeyError, match="UPSTAGE_API_KEY"):
        _ = chat_endpoint("https://api.upstage.ai/v1").key
    monkeypatch.setenv("UPSTAGE_API_KEY", OTHER)
    assert chat_endpoint("https://api.upstage.ai/v1").key == OTHER


def test_any_text_will_do_where_the_address_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError) as openais:
        _ = chat_endpoint().key
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    with pytest.raises(
        MissingKeyError, match=r"http://localhost:8000 \(any text will do for a server that needs none\)"
    ):
        _ = chat_endpoint().key
    assert "any text" not in str(openais.value) and "https://api.openai.com needs a key" in str(openais.value)


def test_no_two_hosts_share_a_variable() -> None:
    hosts = [
        "a.b",
        "a-b",
        "a-b.c",
        "a.b-c",
        "ab",
        "openai",
        "127.0.0.1",
        "127-0.0.1",
        "[::1]",
        "[::2]",
        "ipv6",
        "xn-9t4b",
    ]
    names = [own_variable(f"https://{host}/v1") for host in hosts]
    assert len(set(names)) == len(names)
    assert all(name.startswith("KOLLM_KEY_") for name in names)
    for host in ("a--b", "a..b", "a.-b", "a-.b", "a_b", "-a", "a-"):
        with pytest.raises(InputError, match="--key-env"):
            own_variable(f"https://{host}/v1")


def test_another_host_gets_the_text_and_no_key(
    stranger: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gate: secret\nAuthorization: Bearer sk-gate")
    assert ask(tmp_path, base_url=stranger.url) == "네."
    ((headers, _),) = stranger.heard
    sent = json.dumps(headers)
    for secret in (OPENAI, DEEPL, "org-mine", "proj-mine", "sk-admin", "secret", "sk-gate"):
        assert secret not in sent
    assert "authorization" not in headers
    said = capsys.readouterr().err
    assert f"The text goes to {origin(stranger.url)}, without a key (KOLLM_KEY_127_0_0_1 is not set)." in said


def test_a_host_gets_its_own_key_or_the_one_that_is_named(
    stranger: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOLLM_KEY_127_0_0_1", "of-loopback")
    monkeypatch.setenv("MY_KEY", OTHER)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Bearer sk-gate")
    ask(tmp_path, base_url=stranger.url)
    (tmp_path / "ledger.sqlite3").unlink()
    ask(tmp_path, base_url=stranger.url, key_env="MY_KEY")
    assert [headers["authorization"] for headers, _ in stranger.heard] == ["Bearer of-loopback", f"Bearer {OTHER}"]
    with pytest.raises(MissingKeyError, match="NO_KEY"):
        (tmp_path / "ledger.sqlite3").unlink()
        ask(tmp_path, base_url=stranger.url, key_env="NO_KEY")


def test_the_environments_address_is_the_users_choice(
    stranger: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", stranger.url)
    ask(tmp_path)
    assert stranger.heard[0][0]["authorization"] == f"Bearer {OPENAI}"
    assert "(OPENAI_BASE_URL), with the key in OPENAI_API_KEY." in capsys.readouterr().err


def test_nobody_is_sent_on_to_another_host(stranger: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener(sends_on=stranger.url) as sender:
        monkeypatch.setenv("OPENAI_BASE_URL", sender.url)
        with pytest.raises(ServiceError, match="sends on to another address"):
            ask(tmp_path)
        assert sender.heard and not stranger.heard
        monkeypatch.setenv("DEEPL_SERVER_URL", sender.url)
        client = DeepLTranslator()._client()
        with pytest.raises(Exception, match="sends on to another address"):
            client.translate_text(["A text."], target_lang="KO")
        assert not stranger.heard


def test_deepls_key_goes_to_deepl_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (deepl_endpoint().url, deepl_endpoint().key) == ("https://api-free.deepl.com", DEEPL)
    assert deepl_endpoint("https://api.deepl.com").key == DEEPL
    with pytest.raises(MissingKeyError, match="KOLLM_KEY_DEEPL_EXAMPLE_NET"):
        DeepLTranslator(server_url="https://deepl.example.net")
    monkeypatch.setenv("DEEPL_SERVER_URL", "https://deepl.example.net")
    assert deepl_endpoint().key == DEEPL
    assert DeepLTranslator("mine", "http://127.0.0.1:9").base_url == "http://127.0.0.1:9"


def test_a_recipe_sends_nothing_to_a_host_that_its_user_does_not_name(
    stranger: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "theirs.yaml"
    recipe.write_text(
        f"extends: demo\njudge: {{engine: openai, model: m, base_url: '{stranger.url}'}}\n", encoding="utf-8"
    )
    for extra in (["--dry-run"], []):
        assert run("run", str(recipe), "-o", str(tmp_path / "work"), *extra) == 1
        assert f"sends text to {origin(stranger.url)}, which nothing else names" in capsys.readouterr().err
    assert not stranger.heard and not list((tmp_path / "work").glob("*"))
    monkeypatch.setenv("OPENAI_BASE_URL", stranger.url)
    assert run("run", str(recipe), "-o", str(tmp_path / "work"), "--dry-run") == 0
    assert f"answers to judge go to {origin(stranger.url)} (OPENAI_BASE_URL)" in capsys.readouterr().out
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("KOLLM_KEY_127_0_0_1", "any")
    check_recipe_address(stranger.url, "judge.base_url")
    assert list(destinations(load_recipe(str(recipe)), dataset_given=True)) == [
        f"answers to judge go to {origin(stranger.url)}, with the key in KOLLM_KEY_127_0_0_1"
    ]


@pytest.mark.parametrize("between", ["\\", "%2f", "%00", " ", ";", ",", "\t", "\r\n", "/\r", "\u2044"])
def test_a_host_that_libraries_may_read_otherwise_is_no_address(between: str) -> None:
    for address in (f"https://evil.kr{between}.openai.com/v1", f"https://api.openai.com{between}.evil.kr/v1"):
        try:
            assert chat_endpoint(address).variable != "OPENAI_API_KEY"
        except InputError as error:
            assert "is no address" in str(error) or "no usual name" in str(error)


def test_a_recipe_names_no_variable(tmp_path: Path) -> None:
    recipe = tmp_path / "theirs.yaml"
    recipe.write_text("extends: demo\njudge: {engine: openai, key_env: HF_TOKEN}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"unknown key 'judge\.key_env'"):
        load_recipe(str(recipe))


@pytest.mark.parametrize(
    "address",
    ["https://me:hunter2@host/v1", "https://hunter2@host", "https://host/v1?key=hunter2", "https://host/v1#hunter2"],
)
def test_an_address_with_a_password_is_refused_unseen(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_BASE_URL", "DEEPL_SERVER_URL"):
        monkeypatch.setenv(name, address)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: demo\njudge: {{engine: openai, base_url: '{address}'}}\n", encoding="utf-8")
    refused = (
        lambda: ChatClient(ChatService("m"), kind="judge"),
        lambda: ChatClient(ChatService("m", address), kind="judge"),
        lambda: DeepLTranslator(),
        lambda: load_recipe(str(recipe)),
        lambda: check_address(address),
    )
    for action in refused:
        with pytest.raises((InputError, RecipeError)) as caught:
            action()
        assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
    run("doctor", "--offline")
    assert "hunter2" not in capsys.readouterr().out
    assert "hunter2" not in without_password(address)


@pytest.mark.parametrize(
    "address",
    ["host:8000", "ftp://host", "file:///etc/passwd", "https://", "http://[::1", "javascript:1", "https://host:x"],
)
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        check_address(address)


def test_dry_runs_say_who_gets_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path / "dataset", limit=3)
    answers = tmp_path / "answers.jsonl"
    row = {
        "id": "1",
        "instruction": "가",
        "input": "",
        "response": "나",
        "model": "m",
        "adapter": "",
        "params": {},
        "finish_reason": "stop",
        "system": "s",
    }
    answers.write_text(json.dumps(row) + "\n", encoding="utf-8")
    commands = {
        "https://api.openai.com, with the key in OPENAI_API_KEY": [
            ["judge", str(answers), "--rubric", "kullm2023", "-o", str(tmp_path / "v.jsonl"), "--dry-run"],
            ["generate", "gpt-4", "--api", "--dataset", str(dataset), "-o", str(tmp_path / "g.jsonl"), "--dry-run"],
            ["data", "synthesize", "self-instruct", "--model", "gpt-4", "--count", "2", "--dry-run"],
            ["data", "plan", "dolly", "--input", "sample", "--translator", "openai"],
        ],
        "https://api-free.deepl.com, with the key in DEEPL_AUTH_KEY": [["data", "plan", "dolly", "--input", "sample"]],
    }
    for sentence, lines in commands.items():
        for line in lines:
            assert run(*line) == 0, line
            said = capsys.readouterr()
            assert sentence in said.out + said.err, line


def test_a_refused_key_is_named_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers.chat import LoopbackChat

    with LoopbackChat(lambda _: 401) as server:
        monkeypatch.setenv("MY_KEY", OTHER)
        with pytest.raises(ServiceError, match="refuses the key in MY_KEY"):
            ask(tmp_path, base_url=server.url, key_env="MY_KEY")
