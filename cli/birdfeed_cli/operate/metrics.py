"""`birdfeed metrics`: the queue's metrics."""

from birdfeed_worker.monitoring.prometheus import expose, of_queue

from birdfeed_cli.common.console import OK, print_json
from birdfeed_cli.common.redis_access import open_redis


def run_metrics(*, as_json: bool) -> int:
    """Print them."""
    if as_json:
        print_json(
            [
                {"name": metric.name, "labels": dict(zip(metric.labels, labels, strict=True)), "value": value}
                for metric, values in of_queue(*open_redis())
                for labels, value in sorted(values.items())
            ]
        )
    else:
        print(expose(of_queue(*open_redis())).decode(), end="")
    return OK
