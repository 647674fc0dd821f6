"""Wires the client of the store, by the settings."""

from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird import Tinybird


def tinybird_of(settings: WorkerSettings) -> Tinybird:
    """The client of the store; raises ConfigurationError where host or token is missing."""
    return Tinybird(
        settings.host,
        settings.append_token,
        settings.read_token,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )
