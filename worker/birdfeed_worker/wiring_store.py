"""Wires the client of the store, by the settings."""

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.monitoring.metered import MeteredTinybird
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird


def tinybird_of(settings: WorkerSettings) -> Tinybird:
    """The client of the store; raises ConfigurationError where host or token is missing."""
    return Tinybird(
        settings.host,
        settings.append_token,
        settings.read_token,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )


def metered_tinybird_of(settings: WorkerSettings, meter: Meter) -> Tinybird:
    """The same with its requests counted."""
    return MeteredTinybird(
        settings.host,
        settings.append_token,
        settings.read_token,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        meter=meter,
    )


def reader_of(settings: WorkerSettings) -> Tinybird:
    """A client that only asks; raises ConfigurationError where host or read token is missing."""
    if settings.read_token is None:
        raise ConfigurationError(
            "TINYBIRD_READ_TOKEN is not set; set it to a token with READ scope on llm_events and image_events"
        )
    return Tinybird(
        settings.host,
        "",
        settings.read_token,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )
