"""A labelled set of strings for the secret scan, made at run time so that no key is ever written down.

python -m tests.security.key_strings      # recall by kind and false alarms, of another set: ... SEED COUNT
"""

from __future__ import annotations

import base64
import json
import random
import string
import sys
import uuid
from collections.abc import Callable
from typing import NamedTuple

LETTERS, DIGITS = string.ascii_letters, string.digits
BASE62, HEX, URL64, BASE64 = LETTERS + DIGITS, "0123456789abcdef", LETTERS + DIGITS + "-_", LETTERS + DIGITS + "+/"
WORDS = (
    "risk",
    "averse",
    "investors",
    "portfolios",
    "deep",
    "learning",
    "model",
    "training",
    "token",
    "secret",
    "key",
    "data",
)
UPPER = string.ascii_uppercase + DIGITS


class Labelled(NamedTuple):
    """A text, what it is made of, and whether a key stands in it."""

    text: str
    what: str
    is_key: bool


def labelled(seed: int, true: int = 200, false: int = 200) -> list[Labelled]:
    """A set of strings: every kind of key in turn, in every place in turn, and as many that hold none."""
    lot = random.Random(seed)
    keys = list(KEYS.items())
    rows = []
    for number in range(true):
        kind, make = keys[number % len(keys)]
        place, put = PLACES[(number + number // len(keys)) % len(PLACES)]
        rows.append(Labelled(put(make(lot)), f"{kind}, {place}", True))
    others = list(OTHERS.items())
    for number in range(false):
        what, make = others[number % len(others)]
        rows.append(Labelled(make(lot), what, False))
    return rows


def _lot(letters: str, length: int) -> Callable[[random.Random], str]:
    return lambda lot: "".join(lot.choices(letters, k=length))


def _key(head: str, letters: str, length: int, tail: str = "") -> Callable[[random.Random], str]:
    return lambda lot: head + "".join(lot.choices(letters, k=length)) + tail


def _uuid(lot: random.Random) -> str:
    return str(uuid.UUID(int=lot.getrandbits(128), version=4))


def _pem(kind: str, headers: str = "") -> Callable[[random.Random], str]:
    def make(lot: random.Random) -> str:
        body = base64.b64encode(lot.randbytes(240)).decode()
        lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
        return f"-----BEGIN {kind}-----\n{headers}{lines}\n-----END {kind}-----"

    return make


def _service_account(lot: random.Random) -> str:
    key = _pem("PRIVATE KEY")(lot)
    return json.dumps({"type": "service_account", "private_key_id": _lot(HEX, 40)(lot), "private_key": key + "\n"})


def _jwt(lot: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(json.dumps({"sub": _lot(DIGITS, 10)(lot)}).encode()).decode().rstrip("=")
    return f"{head}.{body}.{_lot(URL64, 43)(lot)}"


def _jwk(lot: random.Random) -> str:
    return json.dumps({"kty": "EC", "crv": "P-256", "x": _lot(URL64, 43)(lot), "d": _lot(URL64, 43)(lot)})


KEYS: dict[str, Callable[[random.Random], str]] = {
    "Hugging Face": _key("hf_", LETTERS, 34),
    "OpenAI": _key("sk-", BASE62, 48),
    "OpenAI, project": _key("sk-proj-", URL64, 156),
    "OpenAI, service account": _key("sk-svcacct-", URL64, 80),
    "OpenAI, admin": _key("sk-admin-", URL64, 80),
    "Anthropic": _key("sk-ant-api03-", URL64, 93, "AA"),
    "OpenRouter": _key("sk-or-v1-", HEX, 64),
    "DeepSeek": _key("sk-", HEX, 32),
    "Groq": _key("gsk_", BASE62, 52),
    "Upstage": _key("up_", BASE62, 32),
    "DeepL, free": lambda lot: f"{_uuid(lot)}:fx",
    "DeepL, pro": lambda lot: f"DEEPL_AUTH_KEY={_uuid(lot)}",
    "DeepL, pro, header": lambda lot: f"Authorization: DeepL-Auth-Key {_uuid(lot)}",
    "AWS, AKIA": _key("AKIA", UPPER, 16),
    "AWS, ASIA": _key("ASIA", UPPER, 16),
    "AWS, secret": _key("aws_secret_access_key = ", BASE64, 40),
    "AWS, secret in JSON": lambda lot: json.dumps({"SecretAccessKey": _lot(BASE64, 40)(lot)}),
    "Google": _key("AIza", URL64, 35),
    "Google, OAuth": _key("GOCSPX-", URL64, 28),
    "Google, service account": _service_account,
    "Azure, storage": _key("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=", BASE64, 86, "=="),
    "Azure, OpenAI": _key("AZURE_OPENAI_API_KEY=", HEX, 32),
    "Azure, client secret": lambda lot: f"{_lot(BASE62, 3)(lot)}8Q~{_lot(URL64, 34)(lot)}",
    "Naver Cloud": _key("ncp_iam_BPAMKR", BASE62, 24),
    "Naver Cloud, secret": _key("NCLOUD_SECRET_KEY: ", BASE62, 40),
    "Naver, client secret": _key("X-Naver-Client-Secret: ", BASE62, 10),
    "Clova Studio": _key("nv-", BASE62, 32),
    "Clova Studio, header": _key("X-NCP-CLOVASTUDIO-API-KEY: ", BASE64, 48),
    "Kakao": _key("KakaoAK ", HEX, 32),
    "Kakao, by name": _key("KAKAO_REST_API_KEY=", HEX, 32),
    "GitHub": _key("ghp_", BASE62, 36),
    "GitHub, app": _key("ghs_", BASE62, 36),
    "GitHub, fine-grained": lambda lot: f"github_pat_{_lot(BASE62, 22)(lot)}_{_lot(BASE62, 59)(lot)}",
    "GitLab": _key("glpat-", URL64, 20),
    "Slack, bot": lambda lot: f"xoxb-{_lot(DIGITS, 12)(lot)}-{_lot(DIGITS, 13)(lot)}-{_lot(BASE62, 24)(lot)}",
    "Slack, app": lambda lot: f"xapp-1-A{_lot(UPPER, 10)(lot)}-{_lot(DIGITS, 13)(lot)}-{_lot(HEX, 64)(lot)}",
    "Slack, webhook": lambda lot: (
        f"https://hooks.slack.com/services/T{_lot(UPPER, 10)(lot)}/B{_lot(UPPER, 10)(lot)}/{_lot(BASE62, 24)(lot)}"
    ),
    "npm": _key("npm_", BASE62, 36),
    "PyPI": _key("pypi-AgEIcHlwaS5vcmc", URL64, 120),
    "JWT": _jwt,
    "RSA": _pem("RSA PRIVATE KEY"),
    "PKCS8": _pem("PRIVATE KEY"),
    "PKCS8, encrypted": _pem("ENCRYPTED PRIVATE KEY"),
    "EC": _pem("EC PRIVATE KEY"),
    "DSA, with headers": _pem("DSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C\n\n"),
    "OpenSSH": _pem("OPENSSH PRIVATE KEY"),
    "PGP": _pem("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2\n\n"),
    "JWK": _jwk,
    "age": _key("AGE-SECRET-KEY-1", UPPER, 58),
    "Stripe": _key("sk_live_", BASE62, 24),
    "SendGrid": lambda lot: f"SG.{_lot(URL64, 22)(lot)}.{_lot(URL64, 43)(lot)}",
    "Telegram": lambda lot: f"{_lot(DIGITS, 10)(lot)}:AA{_lot(URL64, 33)(lot)}",
    "Databricks": _key("dapi", HEX, 32),
    "NVIDIA": _key("nvapi-", URL64, 64),
    "by its name": _key('api_key = "', BASE62, 40, '"'),
    "by its header": _key("Authorization: Bearer ", BASE62, 40),
}
"""Kind -> a key of it, drawn by lot."""

PLACES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("alone", lambda key: key),
    ("begins a line", lambda key: f"설정은 다음과 같습니다.\n{key}\n끝."),
    ("after a tab", lambda key: f"열쇠\t{key}\t값"),
    ("glued before a particle", lambda key: f"제 열쇠는 {key}입니다."),
    ("glued after a particle", lambda key: f"토큰은{key}"),
    ("glued on both sides", lambda key: f"여기는{key}이고 끝."),
    ("in JSON", lambda key: json.dumps({"a": [f"열쇠\n{key}"]})),
    ("in JSON of JSON", lambda key: json.dumps({"body": json.dumps({"text": f"키\t{key}입니다"}, ensure_ascii=False)})),
    ("quoted", lambda key: f'os.environ["X"] = "{key}"'),
    ("in Markdown", lambda key: f"- `{key}`\n"),
    ("in an address", lambda key: f"https://host/?q={key}&r=1" if "\n" not in key and " " not in key else f"({key})"),
    ("between dashes", lambda key: f"—{key}—"),
)
"""Where a key may stand."""


def _words(lot: random.Random, count: int, between: str) -> str:
    return between.join(lot.choices(WORDS, k=count))


OTHERS: dict[str, Callable[[random.Random], str]] = {
    "UUID": lambda lot: f"요청 번호 {_uuid(lot)}",
    "git commit": lambda lot: f"commit {_lot(HEX, 40)(lot)}",
    "SHA-256": lambda lot: f"sha256:{_lot(HEX, 64)(lot)}",
    "MD5": lambda lot: f"md5 = {_lot(HEX, 32)(lot)}",
    "token of a row": lambda lot: f"tokens: {lot.sample(range(30000), 8)}",
    "slug": lambda lot: f"https://blog/{_words(lot, 8, '-')}-{lot.randint(1, 9999)}",
    "words after sk-": lambda lot: f"task-{_words(lot, 6, '-')} sk-{_words(lot, 5, '-')}",
    "function": lambda lot: f"hf_{_words(lot, 4, '_')}(repo_id)",
    "class": lambda lot: "api_key = " + "".join(word.title() for word in _words(lot, 6, " ").split()),
    "placeholder of x": lambda lot: lot.choice(["sk-", "hf_", "ghp_", "AKIA", "gsk_", "glpat-"]) + "x" * lot.randint(16, 48),
    "placeholder of X": lambda lot: lot.choice(["AKIA", "AIza", "npm_"]) + "X" * 36,
    "placeholder in words": lambda lot: lot.choice(["hf_your_token_goes_here", "sk-your-api-key-here", "YOUR_API_KEY", "sk-proj-your-openai-api-key-goes-here-please", "api_key = 'your-secret-api-key-here'"]),
    "placeholder in order": lambda lot: lot.choice(["sk-", "hf_"]) + "abcdefghijklmnopqrstuvwxyz0123456789",
    "placeholder with dots": lambda lot: lot.choice(["sk-...", "hf_...", "sk-proj-…", "AKIA****************", "<HF_TOKEN>", "${OPENAI_API_KEY}"]),
    "variable": lambda lot: f'api_key = os.environ["{lot.choice(["OPENAI", "DEEPL", "KAKAO", "NAVER_CLIENT"])}_API_KEY"]',
    "exact example of AWS": lambda lot: lot.choice(["AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]),
    "exact example of jwt.io": lambda lot: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "heading of a private key": lambda lot: "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "public key": lambda lot: f"-----BEGIN PUBLIC KEY-----\n{_lot(BASE64, 64)(lot)}\n-----END PUBLIC KEY-----",
    "certificate": lambda lot: f"-----BEGIN CERTIFICATE-----\n{_lot(BASE64, 64)(lot)}\n-----END CERTIFICATE-----",
    "SSH public key": lambda lot: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{_lot(BASE64, 44)(lot)} me@host",
    "picture": lambda lot: f"data:image/png;base64,iVBORw0KGgo{_lot(BASE64, 200)(lot)}",
    "JSON in base64": lambda lot: base64.b64encode(json.dumps({"a": lot.random()}).encode()).decode(),
    "DNA": lambda lot: _lot("ACGT", 80)(lot),
    "phone": lambda lot: f"전화는 010-{lot.randint(1000, 9999)}-{lot.randint(1000, 9999)}입니다",
    "ISBN": lambda lot: f"ISBN 979-11-{lot.randint(1000, 9999)}-{lot.randint(100, 999)}-{lot.randint(0, 9)}",
    "version": lambda lot: f"gpt-4.1-mini-2025-0{lot.randint(1, 9)}-14, torch 2.{lot.randint(0, 9)}.1+cu124",
    "package": lambda lot: f"npm_config_cache=/tmp/npm_{_words(lot, 3, '_')} pypi-{_words(lot, 3, '-')}",
    "question about keys": lambda lot: lot.choice(["API 키는 어디에서 받나요?", "토큰은 무엇인가요?", "What is a secret access key in AWS?", "비밀 키와 공개 키의 차이를 설명하세요.", "The private key: never share it with anyone."]),
    "LaTeX": lambda lot: rf"\begin{{aligned}} sk_{{{lot.randint(1, 9)}}} &= \frac{{{lot.randint(1, 99)}}}{{2}} \end{{aligned}}",
    "path": lambda lot: f"api_key: /home/user/data/train/shard-{lot.randint(1, 9999):05d}-of-02048.parquet",
    "Korean prose": lambda lot: f"대한민국의 수도는 서울이며 인구는 약 {lot.randint(900, 999)}만 명입니다. 한강이 흐릅니다.",
    "special tokens": lambda lot: f"eos_token = '<|endoftext|>' pad_token_id={lot.randint(0, 9)} access_token_type=bearer",
    "time": lambda lot: f"2026-07-0{lot.randint(1, 9)}T12:30:{lot.randint(10, 59)}.{lot.randint(100000, 999999)}+09:00",
    "model's name": lambda lot: f"sk-learn-contrib-{lot.randint(1, 99)} eleutherai-polyglot-ko-12.8b up_proj down_proj_layer_{lot.randint(1, 39)}",
    "e-mail": lambda lot: f"{_words(lot, 1, '')}{lot.randint(1, 99)}@example.co.kr 로 연락 주세요",
}  # fmt: skip
"""What is no key."""


def main() -> None:
    """Print what the scan finds and what it takes for a key wrongly."""
    from kollm.hub.secrets import Search

    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    rows, search = labelled(seed, count, count), Search({})
    found = list(zip(rows, search.kinds_of([row.text for row in rows]), strict=True))
    missed = [row for row, kinds in found if row.is_key and not kinds]
    alarms = [(row, kinds) for row, kinds in found if kinds and not row.is_key]
    for row in missed:
        print(f"missed: {row.what}: {row.text[:200]!r}")
    for row, kinds in alarms:
        print(f"false alarm: {row.what}: {sorted(kinds)}: {row.text[:200]!r}")
    true = sum(row.is_key for row in rows)
    print(f"recall {1 - len(missed) / true:.3f} of {true}, false alarms {len(alarms)} of {len(rows) - true}")


if __name__ == "__main__":
    main()
