"""The worker's own loop, in this process."""

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.process import loop as module
from birdfeed_worker.process.bootstrap import make_worker
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError


def test_a_registration_whose_answer_was_lost(
    redis: Redis, keys: Keys, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover at the worker's start: it is registered already when it tries again, and works."""
    settings = WorkerSettings.model_validate(
        {"redis_url": valkey_url, "TINYBIRD_HOST": "http://127.0.0.1:1", "TINYBIRD_TOKEN": "t"}
    )
    worker = make_worker(settings, "w1")
    register, tries = worker.register_birth, list[int]()

    def answered_too_late() -> None:
        register()
        tries.append(1)
        if len(tries) == 1:
            raise RedisConnectionError("the answer was lost")

    monkeypatch.setattr(module, "REDIS_DOWN_WAIT", 0.0)
    monkeypatch.setattr(worker, "_install_signal_handlers", lambda: None)
    monkeypatch.setattr(worker, "register_birth", answered_too_late)

    assert worker.work(burst=True) is False
    assert len(tries) == 2
