"""Envelopes: what is not signed with the secret, or is late, elsewhere or a second time, is not opened."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from kombu.utils.url import parse_url

import greenlab
from greenlab import UsageError
from greenlab.pools.celery import embedded, settings, signing

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"s" * 32
HEADER = signing.Header("greenlab.io", "job", "one", 4e9)  # a time that is far away, and the same in every test process


def test_what_was_signed_is_opened_with_its_header() -> None:
    header, body = signing.open_envelope(SECRET, signing.make_envelope(SECRET, HEADER, b"body"), "greenlab.io")
    assert (HEADER, b"body") == (header, bytes(body))


@pytest.mark.parametrize("place", [0, 31, 32, 36, 60, -1])
def test_a_byte_that_was_changed_anywhere_is_noticed(place: int) -> None:
    envelope = bytearray(signing.make_envelope(SECRET, HEADER, b"body"))
    envelope[place] ^= 1
    with pytest.raises(signing.RefusedError, match="signature is wrong"):
        signing.open_envelope(SECRET, bytes(envelope), "greenlab.io")


@pytest.mark.parametrize(
    ("envelope", "says"),
    [
        (signing.make_envelope(b"x" * 32, HEADER, b"body"), "signature is wrong"),
        (signing.make_envelope(SECRET, HEADER, b"body")[:-1], "signature is wrong"),
        (signing.make_envelope(SECRET, HEADER, b"body") + b"x", "signature is wrong"),
        (b"", "0 bytes"),
        (b"x" * 35, "35 bytes"),
        (b"x" * 100, "signature is wrong"),
        (None, "NoneType"),
        ("text", "str"),
        ({"a": 1}, "dict"),
    ],
    ids=["another secret", "cut", "longer", "empty", "short", "noise", "nothing", "text", "a mapping"],
)
def test_what_is_not_signed_is_refused(envelope: Any, says: str) -> None:
    with pytest.raises(signing.RefusedError, match=says):
        signing.open_envelope(SECRET, envelope, "greenlab.io")


def test_a_message_for_another_queue_is_refused() -> None:
    with pytest.raises(signing.RefusedError, match=r"for the queue 'greenlab\.io'"):
        signing.open_envelope(SECRET, signing.make_envelope(SECRET, HEADER, b""), "greenlab.cpu")


def test_an_expired_message_is_refused() -> None:
    late = HEADER._replace(expires_s=time.time() - 60)
    with pytest.raises(signing.RefusedError, match="expired"):
        signing.open_envelope(SECRET, signing.make_envelope(SECRET, late, b""), "greenlab.io")


def test_a_message_is_taken_once_and_forgotten_when_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = signing.SeenMessages()
    seen.add(HEADER)
    with pytest.raises(signing.RefusedError, match="seen before"):
        seen.add(HEADER)
    later = 5e9
    monkeypatch.setattr(time, "time", lambda: later)
    seen.add(HEADER._replace(id="two", expires_s=later + 60))
    assert 1 == len(seen)


def test_what_is_too_large_is_not_sent_nor_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = signing.make_envelope(SECRET, HEADER, bytes(2000))
    monkeypatch.setattr(signing, "MOST_BYTES", 1000)
    with pytest.raises(signing.RefusedError, match="more than"):
        signing.make_envelope(SECRET, HEADER, bytes(2000))
    with pytest.raises(signing.RefusedError, match="bytes"):
        signing.open_envelope(SECRET, envelope, "greenlab.io")


# --- settings ----------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder, and nothing configured."""
    for name in (settings.BROKER, settings.BACKEND, settings.SECRET):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GREENLAB_BROKER": "redis://localhost"}, "GREENLAB_SECRET is not"),
        ({"GREENLAB_BROKER": "redis://localhost", "GREENLAB_SECRET": "short"}, "too short"),
        ({"GREENLAB_SECRET": "x" * 32}, "GREENLAB_BROKER is not"),
        ({"GREENLAB_BACKEND": "redis://localhost"}, "GREENLAB_BROKER is not"),
        ({}, "greenlab worker"),
    ],
)
def test_half_a_configuration_is_refused_in_one_line(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], says: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says) as caught:
        settings.find()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broker", "backend"),
    [
        ("redis://h/1", "redis://h/1"), ("rediss://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=none"),
        ("amqp://h", "rpc://"), ("filesystem://", "cache+memory://"),
    ],
)  # fmt: skip
def test_a_backend_goes_with_the_broker(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, broker: str, backend: str
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", broker)
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    assert (broker, backend, b"x" * 32) == (settings.find().broker, settings.find().backend, settings.find().secret)
    assert "x" * 32 not in repr(settings.find())


@pytest.mark.parametrize("more", ["", "/1", "/1?socket_timeout=3"])
def test_the_certificate_of_a_redis_is_checked_unless_its_url_says_otherwise(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", f"rediss://h{more}")
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    found = settings.find()
    for url in (found.broker, found.backend):
        assert ssl.CERT_REQUIRED == parse_url(url)["ssl"]["ssl_cert_reqs"]


@pytest.mark.parametrize(("url", "said"), [("foo://x", "a foo broker"), ("sqs://x", "a sqs broker")])
def test_a_broker_that_kombu_does_not_know_or_has_no_package_for_is_refused_in_one_line(
    started: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", url)
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    with pytest.raises(UsageError, match=f"GREENLAB_BROKER names {said}, which cannot be used here") as caught:
        greenlab.run(abs, [1], pool="celery", live=False)
    assert "\n" not in str(caught.value)


def test_a_folder_that_others_can_read_is_refused(runtime: Path) -> None:
    (runtime / "greenlab").mkdir(mode=0o755)
    os.chmod(runtime / "greenlab", 0o755)  # noqa: PTH101
    for look in (embedded.find, embedded.join):
        with pytest.raises(UsageError, match="only you can read"):
            look()


def test_a_worker_without_a_secret_refuses_to_start_and_says_why(runtime: Path) -> None:
    environ = os.environ | {"GREENLAB_BROKER": "redis://127.0.0.1:1"}
    command = [sys.executable, "-m", "celery", "-A", "greenlab.celery", "worker", "-P", "solo"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert 0 != done.returncode
    assert "GREENLAB_SECRET is not: messages hold functions" in done.stderr


def test_the_secret_of_the_embedded_broker_is_the_users_alone(runtime: Path) -> None:
    (runtime / "greenlab").mkdir(mode=0o700)
    embedded._make_secret(runtime / "greenlab")
    path = runtime / "greenlab" / "secret"
    assert (0o600, 64) == (stat.S_IMODE(path.stat().st_mode), len(path.read_bytes()))
    before = path.read_bytes()
    embedded._make_secret(runtime / "greenlab")
    assert before == path.read_bytes()
