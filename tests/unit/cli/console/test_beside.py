"""The console on the launcher's port: off by default, with the same access checks, and without effect on probes."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.process.http import Pages, Pulse, Server, listen
from birdfeed_worker.process.main import listen_of
from birdfeed_worker.settings import WorkerSettings
from redis import Redis

from tests.support.servers.console import TOKEN, form_key

Address = tuple[Server, str]


def settings(redis: Redis, **more: Any) -> WorkerSettings:
    """Those of a launcher on this Redis."""
    at = redis.connection_pool.connection_kwargs
    url = f"unix://{at['path']}" if "path" in at else f"redis://{at['host']}:{at['port']}/{at['db']}"
    return WorkerSettings(_env_file=None, redis_url=url, console_token=TOKEN, console_on_metrics_port=True, **more)


@pytest.fixture
def launcher(redis: Redis, keys: Keys) -> Iterator[Address]:
    """The launcher's port with both, and its address."""
    from birdfeed_cli.console.server import beside

    server = Server(Pages(Pulse("p", workers=1), redis, keys), "127.0.0.1", 0, beside(settings(redis), keys)).start()
    yield server, f"http://127.0.0.1:{server.port}"
    server.close()


def test_both_are_served(launcher: Address) -> None:
    """Probes and Prometheus need no sign-in and may use any host name; the console works as on its own port."""
    _, address = launcher
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=60, trust_env=False) as client:
        pages = {path: client.get(path, headers={"Host": "pod-7.svc"}) for path in ("/healthz", "/readyz", "/metrics")}
        assert [one.status_code for one in pages.values()] == [200] * 3
        assert (pages["/healthz"].json().keys(), "birdfeed_workers 1" in pages["/metrics"].text) == (
            {"seconds_since_turn"},
            True,
        )
        assert pages["/metrics"].headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert client.head("/healthz").status_code == 200

        assert client.get("/dead").headers["Location"] == "/sign-in"
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert client.post("/sign-in", data={"token": TOKEN}, headers={"Origin": "http://x"}).status_code == 403
        assert client.post("/sign-in", data={"token": TOKEN}).status_code == 303
        page = client.get("/")
        assert "birdfeed is" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert client.post("/resume", data={"name": "llm_events"}).status_code == 403
        form = {"name": "llm_events", "form_key": form_key(page.text)}
        assert client.post("/resume", data=form).status_code == 303
        assert client.get("/static/console.css").status_code == 200


def test_it_stops_and_frees_the_port(launcher: Address) -> None:
    """With a connection that is still open."""
    server, address = launcher
    with httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        port = server.port
        assert port is not None
        server.close()
    socket.create_server(("127.0.0.1", port)).close()


def test_off_by_default(redis: Redis, keys: Keys) -> None:
    """The launcher's own pages, and nothing of the console's packages."""

    def never(settings: WorkerSettings, keys: Keys) -> Any:
        raise AssertionError("nobody asked for it")

    chosen = listen_of(WorkerSettings(_env_file=None), keys, never)
    assert chosen is listen
    server = Server(Pages(Pulse("p", workers=1), redis, keys), "127.0.0.1", 0, chosen).start()
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/dead", trust_env=False)
        assert (answer.status_code, "/metrics" in answer.text) == (404, True)
    finally:
        server.close()


def test_settings_that_cannot_work_are_named(redis: Redis, keys: Keys) -> None:
    """Each in a sentence, before a worker starts."""
    from birdfeed_cli.console.server import beside

    def asked(**more: Any) -> WorkerSettings:
        return settings(redis, **more)

    with pytest.raises(ConfigurationError, match="BIRDFEED_METRICS_PORT is 0"):
        listen_of(asked(metrics_port=0), keys, beside)
    with pytest.raises(ConfigurationError, match="works only with `birdfeed worker`"):
        listen_of(asked(), keys, None)
    open_to_all = asked(metrics_host="0.0.0.0").model_copy(update={"console_token": None})
    with pytest.raises(ConfigurationError, match=r"on 0\.0\.0\.0 \(BIRDFEED_METRICS_HOST\) others can reach"):
        listen_of(open_to_all, keys, beside)
    assert listen_of(asked(metrics_host="0.0.0.0"), keys, beside) is not listen


def test_without_the_consoles_packages(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher says what to install."""
    import sys

    from birdfeed_cli.app import _console_beside

    monkeypatch.setitem(sys.modules, "birdfeed_cli.console.server", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'birdfeed\[console\]'"):
        listen_of(settings(redis), keys, _console_beside)
