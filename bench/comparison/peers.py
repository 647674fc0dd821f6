"""The peers that are compared, each with its defaults, used as its documentation says.

This module runs in each peer's environment, so only the standard library is imported at the top.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final


class Peer:
    """One way to send events from a handler to a store.

    Attributes:
        packages: What pip installs; empty for birdfeed itself, which is installed where the script runs.
        worker: The command of its worker, with the environment's bin folder as {bin}; empty if it has no worker.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    worker: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, url: str) -> None:
        self.url = url

    async def track(self, event: dict[str, Any]) -> None:
        """Track an event, as a request handler does."""
        raise AssertionError("every peer has its own")

    async def finish(self) -> None:
        """Do what its documentation says to do at exit."""


class Birdfeed(Peer):
    worker = ("{bin}/birdfeed", "worker", "--processes", "1")

    def __init__(self, url: str) -> None:
        import birdfeed

        super().__init__(url)
        self.birdfeed = birdfeed
        birdfeed.start()

    async def track(self, event: dict[str, Any]) -> None:
        self.birdfeed.track_event(self.birdfeed.EventType("text_generation"), event)

    async def finish(self) -> None:
        self.birdfeed.close(timeout=60)


class BirdfeedOnDisk(Birdfeed):
    environment: ClassVar[Mapping[str, str]] = {"BIRDFEED_DURABILITY": "spool"}


class Post(Peer):
    packages = ("httpx==0.28.1",)

    def __init__(self, url: str) -> None:
        import httpx

        super().__init__(url + "/v0/events?name=llm_events")
        self.error = httpx.HTTPError
        self.client = httpx.AsyncClient(timeout=5, trust_env=False, headers={"Authorization": "Bearer token"})

    async def track(self, event: dict[str, Any]) -> None:
        with suppress(self.error):
            await self.client.post(self.url, json=event)

    async def finish(self) -> None:
        await self.client.aclose()


class TinybirdSdk(Peer):
    packages = ("tinybird-sdk==0.4.0",)

    def __init__(self, url: str) -> None:
        from tinybird_sdk.client.base import TinybirdClient
        from tinybird_sdk.client.types import TinybirdError

        super().__init__(url)
        self.error = (TinybirdError, OSError)
        self.client = TinybirdClient({"base_url": url, "token": "token", "timeout": 5_000})

    async def track(self, event: dict[str, Any]) -> None:
        with suppress(*self.error):
            self.client.datasources.ingest("llm_events", event, {"timeout": 5_000})


def post_in_job(url: str, event: dict[str, Any]) -> None:
    """The job of plain rq."""
    import httpx

    httpx.post(f"{url}/v0/events?name=llm_events", json=event, timeout=5, trust_env=False).raise_for_status()


class PlainRq(Peer):
    packages = ("rq==3.0.0", "httpx==0.28.1")
    worker = ("{bin}/rq", "worker", "--url", "{redis}", "--quiet")

    def __init__(self, url: str) -> None:
        from redis import Redis
        from rq import Queue

        super().__init__(url)
        self.queue = Queue(connection=Redis.from_url(os.environ["BIRDFEED_REDIS_URL"]))

    async def track(self, event: dict[str, Any]) -> None:
        self.queue.enqueue(post_in_job, self.url, event)


class LiteLlm(Peer):
    packages = ("litellm==1.106.2",)
    environment: ClassVar[Mapping[str, str]] = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def __init__(self, url: str) -> None:
        from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

        super().__init__(url)
        self.logger = GenericAPILogger(endpoint=url + "/v0/events?name=llm_events", log_format="ndjson")

    async def track(self, event: dict[str, Any]) -> None:
        await self.logger.async_log_success_event({"standard_logging_object": event}, None, None, None)

    async def finish(self) -> None:
        await self.logger.flush_queue()


class OpenTelemetry(Peer):
    packages = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")

    def __init__(self, url: str) -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        super().__init__(url)
        self.provider = LoggerProvider()
        self.provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=url + "/v1/logs")))
        self.logger = self.provider.get_logger("comparison")

    async def track(self, event: dict[str, Any]) -> None:
        self.logger.emit(event_name="text_generation", attributes=event)

    async def finish(self) -> None:
        self.provider.shutdown()


class PostHog(Peer):
    packages = ("posthog==7.91.1",)

    def __init__(self, url: str) -> None:
        from posthog import Posthog

        super().__init__(url)
        self.client = Posthog("key", host=url)

    async def track(self, event: dict[str, Any]) -> None:
        self.client.capture("text_generation", distinct_id=event["user"], properties=event)

    async def finish(self) -> None:
        self.client.shutdown()


class Segment(Peer):
    packages = ("segment-analytics-python==2.4.0",)

    def __init__(self, url: str) -> None:
        from segment.analytics.client import Client

        super().__init__(url)
        self.client = Client("key", host=url)

    async def track(self, event: dict[str, Any]) -> None:
        self.client.track(event["user"], "text_generation", event)

    async def finish(self) -> None:
        self.client.shutdown()


#: Name in the tables → the peer.
PEERS: Final[Mapping[str, type[Peer]]] = {
    "birdfeed": Birdfeed,
    "birdfeed, durability=spool": BirdfeedOnDisk,
    "a POST each, 5 s timeout (httpx)": Post,
    "Tinybird's Python SDK": TinybirdSdk,
    "plain rq": PlainRq,
    "LiteLLM's generic API logger": LiteLlm,
    "OpenTelemetry's batch log processor": OpenTelemetry,
    "PostHog's SDK": PostHog,
    "Segment's SDK": Segment,
}
