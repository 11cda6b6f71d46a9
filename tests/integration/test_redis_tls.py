"""The storage over an encrypted connection, to a server that asks for a password as well."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from triggers import TriggerManager
from triggers.engine.lifecycle import Claim, Finish
from triggers.exceptions import StorageUnavailable
from triggers.runners import task_runners
from triggers.storages.redis import RedisStorageBackend
from triggers.testing.racing import IdleRunner, Recorded

pytestmark = pytest.mark.django_db

PATIENCE = 10  # seconds
PASSWORD = "s3cret"
EVERY = {"t_x": {"run": Recorded.name, "andEvery": "p"}}


@pytest.fixture(autouse=True)
def _idle() -> Iterator[None]:
    task_runners.register(IdleRunner)
    yield
    task_runners.unregister(IdleRunner.name)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself; its key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path / "server.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def url(certificate: Path, tmp_path: Path) -> Iterator[str]:
    """Address of a server of this test's own that speaks TLS alone."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("there is no redis-server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [program, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    command += ["--tls-cert-file", str(certificate), "--tls-auth-clients", "no"]
    command += ["--tls-key-file", str(certificate.with_suffix(".key"))]
    command += ["--save", "", "--dir", str(tmp_path), "--requirepass", PASSWORD]
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    url = f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
    try:
        _wait_for(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if process.poll() is not None and b"tls-port" in log.read_bytes():
                    pytest.skip("redis-server was built without TLS")
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            else:
                return


def session(url: str, **options: float) -> TriggerManager:
    manager = TriggerManager(RedisStorageBackend(uuid4().hex, url=url, **options))
    manager.default_task_runner_name = IdleRunner.name
    return manager


def test_a_session_lives_over_tls(url: str) -> None:
    manager = session(url)
    manager.update_configuration(EVERY)
    text = "é" * 200_000  # more than fits in one record
    assert manager.fire("p", {"text": text}).created == ("t_x#0",)
    transition = manager.apply(Claim(key=("t_x", 0), token="mine"))
    assert manager.storage.present(transition.outcome, transition.plan).kwargs["p"]["text"] == text
    manager.apply(Finish(key=("t_x", 0), token="mine", result='{"sum":3}'))
    [instance] = manager.storage
    assert (instance.status, instance.metadata["result"]) == ("finished", {"sum": 3})


def test_a_server_behind_tls_that_falls_silent_is_given_up(url: str) -> None:
    manager = session(url, server_timeout=0.3)
    manager.update_configuration(EVERY)
    manager.fire("p")
    with redis.Redis.from_url(url) as client:
        client.client_pause(5000)
        with pytest.raises(StorageUnavailable, match=r"answer in time.*server_timeout"):
            manager.fire("p")
        client.client_unpause()


def test_a_certificate_that_nobody_vouches_for_is_refused(url: str) -> None:
    with pytest.raises(StorageUnavailable, match="certificate") as caught:
        session(url.partition("?")[0], server_timeout=0.5).fire("p")
    assert PASSWORD not in str(caught.value)
