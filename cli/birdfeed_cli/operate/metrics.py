"""`birdfeed metrics`: the queue's metrics, and the reference of all."""

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.monitoring.metrics import reference
from birdfeed_worker.monitoring.prometheus import expose, of_queue
from redis import Redis

from birdfeed_cli.common.console import OK
from birdfeed_cli.common.redis_access import with_redis


def run_metrics(*, markdown: bool) -> int:
    """Print them."""
    if markdown:
        print(reference(), end="")
        return OK

    def run(connection: Redis, keys: Keys) -> int:
        print(expose(of_queue(connection, keys)).decode(), end="")
        return OK

    return with_redis(run)
