"""Redis behind TLS: producer, commands and workers reach it by a rediss:// URL that names the authority."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox
from redis import Redis
from redis.exceptions import RedisError

from tests.support.events import text
from tests.support.servers.redis_servers import MUST_HAVE_ALL, free_port
from tests.support.servers.system import System
from tests.support.wait import eventually


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    """Debian's redis-server, TLS only, with a certificate made for this test."""
    if (shutil.which("redis-server") is None or shutil.which("openssl") is None) and not MUST_HAVE_ALL:
        pytest.skip("redis-server or openssl is not installed here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    port = free_port()
    serve = f"redis-server --port 0 --tls-port {port} --bind 127.0.0.1 --tls-auth-clients no --appendonly yes"
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    process = subprocess.Popen([*serve.split(), "--dir", str(tmp_path), *files], stdout=subprocess.DEVNULL)
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
    try:
        eventually(lambda: _answers(url), what="redis-server answers over TLS")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


def test_everything_works_over_tls(tls_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """A real producer sends, real workers deliver, all over TLS with a checked certificate."""
    with System(tls_url, sandbox, tmp_path) as system:
        system.start_pool(1)
        sent = system.send([("text_generation", text(request_id=f"r{n}")) for n in range(20)])
        assert "20 accepted" in sent.stdout, sent.stderr

        system.drained()

        assert system.rows() == {f"r{n}": 1 for n in range(20)}


def test_an_untrusted_certificate_is_refused(tls_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Without the authority in the URL nothing is sent, and the message has the reason."""
    with System(tls_url, sandbox, tmp_path) as system:
        system.environment["BIRDFEED_REDIS_URL"] = tls_url.partition("?")[0]

        sent = system.send([("text_generation", text())])

        assert sent.returncode == 3
        assert "certificate verify failed" in " ".join(sent.stderr.split())
