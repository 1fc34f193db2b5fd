"""Secrets are found in every kind of file and never repeated; examples in texts are not secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kollm.core.errors import InputError
from kollm.hub.secrets import Finding, environment_secrets, find_secrets
from kollm.services.weights import MOST_HEADER, safetensors_header

KEYS = {
    "Hugging Face token": "hf_" + "aBcDeFgH1JkLmN0pQrStUvWxYz23456789",
    "OpenAI key": "sk-proj-" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv",
    "DeepL key": "279a2e9d-83b3-c416-7e2d-f721593e42a0" + ":fx",
    "AWS access key": "AKIA" + "2E0A8F3B1C5D7Q9Z",
    "GitHub token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "Google key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "Slack token": "xoxb-" + "123-" + "AbCdEf123456GhIjKl",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq98W0sx3y2dQ4n9qAbCdEfGhIjKlMn",
}


@pytest.mark.parametrize("kind", KEYS)
def test_known_forms(kind: str) -> None:
    text = f"설정: {KEYS[kind]} 끝".encode()
    assert list(find_secrets({"a.md": text}, {})) == [Finding("a.md", kind)]


@pytest.mark.parametrize(
    "text",
    [
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "hf_your_token_goes_here_your_token_goes_here",
        "AKIAIOSFODNN7EXAMPLE",
        "279a2e9d-83b3-c416-7e2d-f721593e42a0",
        "risk-averse-investors-and-their-portfolios",
        "-----BEGIN PRIVATE KEY----- ... -----END PRIVATE KEY-----",
        "task-specific sk-learn hf_hub_download",
    ],
)
def test_examples_are_none(text: str) -> None:
    assert list(find_secrets({"a.md": text.encode()}, {})) == []


def test_a_row_is_named_and_the_secret_is_not(tmp_path: Path) -> None:
    key = KEYS["Hugging Face token"]
    rows = [{"id": "dolly-1", "history": []}, {"id": "dolly-2", "history": [["열쇠는", f"{key}입니다"]]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = list(find_secrets({"dolly/x.parquet": tmp_path / "x.parquet"}, {}))
    assert found == [Finding("dolly/x.parquet, row dolly-2", "Hugging Face token")]


def test_values_of_this_environment() -> None:
    hidden = environment_secrets(
        {"DEEPL_AUTH_KEY": "0123-4567-89ab", "SHORT_KEY": "abc", "SSH_KEY": "/home/a/.ssh/id", "HOME": "x" * 20}
    )
    assert hidden == {"value of DEEPL_AUTH_KEY": "0123-4567-89ab"}
    assert list(find_secrets({"r.json": b'{"auth": "0123-4567-89ab"}'}, hidden)) == [
        Finding("r.json", "value of DEEPL_AUTH_KEY")
    ]


def safetensors(header: bytes, size: int | None = None) -> bytes:
    return (len(header) if size is None else size).to_bytes(8, "little") + header + b"\0" * 16


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = {"__metadata__": {"note": KEYS["Hugging Face token"]}}
    path.write_bytes(safetensors(json.dumps(header).encode()))
    assert [finding.kind for finding in find_secrets({"w.safetensors": path}, {})] == ["Hugging Face token"]
    for wrong in (
        b"",
        b"PK\3\4" + b"\0" * 40,
        safetensors(b"{}", size=10**12),
        safetensors(b"[1]"),
        safetensors(b"{x}"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="is no safetensors file"):
            safetensors_header(path)
    path.write_bytes(safetensors(b"{}", size=MOST_HEADER + 1))
    os.truncate(path, 2 * MOST_HEADER)  # a hole, which takes no room on the disk
    with pytest.raises(InputError, match="is no safetensors file"):
        safetensors_header(path)
