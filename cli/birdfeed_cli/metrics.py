"""`birdfeed metrics`: the queue's metrics, and the reference of all."""

from birdfeed_schemas.keys import Keys
from birdfeed_worker.expose import expose, of_queue
from birdfeed_worker.metrics import reference
from redis import Redis

from birdfeed_cli.console import OK
from birdfeed_cli.redis_access import with_redis


def run_metrics(*, markdown: bool) -> int:
    """Print them."""
    if markdown:
        print(reference(), end="")
        return OK

    def run(connection: Redis, keys: Keys) -> int:
        print(expose(of_queue(connection, keys)).decode(), end="")
        return OK

    return with_redis(run)
