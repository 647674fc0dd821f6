"""The producer's settings. docs/reference/settings.md and `birdfeed settings` are made from this model."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from birdfeed_schemas.event_structs import MAX_TEXT
from birdfeed_schemas.safety.redis_url import checked_redis_url
from birdfeed_schemas.settings import RedisSettings
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from birdfeed.options import REDIS_VARIABLES, Options, names_in, option_names, rates_in

#: The file that commands read besides the environment.
DOTENV: Final = ".env"

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
DefaultText = Annotated[str, Field(max_length=MAX_TEXT)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Shares = Annotated[
    dict[str, Share], NoDecode, BeforeValidator(lambda given: rates_in(given) if isinstance(given, str) else given)
]


class ProducerSettings(RedisSettings):
    """How events are buffered in the handler's process and sent. Without a Redis URL telemetry is off.

    As a library in another program it reads the environment and its arguments, never a file in the working directory.
    """

    model_config = SettingsConfigDict(env_file=None)

    enabled: bool = Field(True, description="False turns telemetry off: track_event returns immediately.")
    flush_interval: Seconds = Field(
        0.2,
        description="Seconds between flushes; with durability=buffer, a killed process loses the events since the last "
        "one.",
    )
    batch_events: Annotated[int, Field(gt=0, le=10_000)] = Field(500, description="Most events in one job.")
    batch_bytes: Annotated[int, Field(ge=1_000, le=50_000_000)] = Field(
        512_000,
        description="Most bytes of events in one job, before compression; a larger event gets its own job.",
    )
    buffer_events: Count = Field(100_000, description="Most events waiting in memory.")
    buffer_bytes: Count = Field(64_000_000, description="Most bytes of events waiting in memory.")
    max_event_bytes: Count = Field(1_000_000, description="A larger event is refused (reason too_large).")
    max_depth: Annotated[int, Field(ge=1, le=32)] = Field(
        8, description="Levels of nesting in a field that BIRDFEED_EXTRA_FIELDS allows; deeper values are cut."
    )
    max_items: Annotated[int, Field(ge=100, le=5_000)] = Field(
        1_000, description="Most values in one event; the rest is cut."
    )
    max_text: Annotated[int, Field(ge=512, le=100_000)] = Field(
        512, description="Most characters of one text; the rest is cut. Rows keep 512 characters of a field."
    )
    drop_policy: Literal["newest", "oldest"] = Field(
        "newest", description="Which events are dropped when the buffer or the spool is full: the newest or the oldest."
    )
    durability: Literal["buffer", "spool"] = Field(
        "buffer",
        description="spool: each event is on disk before track_event returns, so that a SIGKILL loses none; "
        "it costs tens of microseconds per call.",
    )
    spool_wait: Seconds = Field(
        0.5,
        description="Seconds that track_event waits for the disk, with durability=spool, while other threads or "
        "processes write to it; then the event is kept in memory, where a SIGKILL loses it.",
    )
    spool_dir: Path | None = Field(
        None,
        description="Directory of the disk spool, shared by the processes of a host. "
        "Default: the directory birdfeed in $XDG_STATE_HOME or ~/.local/state, else in the temporary directory.",
    )
    spool_bytes: Annotated[int, Field(ge=0)] = Field(
        256_000_000, description="Most bytes of events on disk (mostly compressed); 0 turns the spool off."
    )
    spool_drain_rate: Annotated[float, Field(gt=0)] = Field(
        5_000.0, description="Events per second that each process sends from the spool once Redis is back."
    )
    user_hmac_key: SecretStr | None = Field(
        None,
        description="With a key, the fields of BIRDFEED_HMAC_FIELDS leave the process only as HMAC-SHA256 (32 hex "
        "digits).",
    )
    hmac_fields: Annotated[str, Field(pattern=r"^[A-Za-z0-9_, ]*$")] = Field(
        "user,username", description="Comma-separated fields that the key hashes, after before_send."
    )
    error_message: Literal["full", "redacted", "none"] = Field(
        "redacted",
        description="What is sent of an error's message: redacted leaves out quoted and input values, URL queries, "
        "e-mail addresses and long numbers, and keeps 300 characters; full keeps 2,000; none sends none.",
    )
    referrer: Literal["host", "path"] = Field(
        "host",
        description="What is sent of a referrer: its host, or all of it. Its path and query can contain prompts.",
    )
    keep_traceback: bool = Field(
        False, description="Send tracebacks of tracked exceptions; they can contain parts of prompts."
    )
    close_timeout: Seconds = Field(
        5.0, description="Most seconds that flush() and close() may take, and with them the exit of the process."
    )
    sigterm_hook: bool = Field(
        False,
        description="Turn SIGTERM into an orderly exit if the program has no handler for it. Takes effect at the first "
        "event or start(), in the main thread.",
    )
    environment: DefaultText = Field("", description="Environment for events that don't name one, such as production.")
    project: DefaultText = Field("", description="Project for events that don't name one.")
    organization: DefaultText = Field("", description="Organization for events that don't name one.")
    redis_timeout: Seconds = Field(1.0, description="Seconds to wait for Redis: for a connection, and for an answer.")
    compression: Annotated[int, Field(ge=0, le=9)] = Field(
        1,
        description="zlib level of jobs: 1 is fastest, 9 smallest, 0 none. Level 1 gives about 35 bytes per event in a "
        "full batch.",
    )
    sample: Shares = Field(
        {},
        description="Event types of which only a share is sent: text_generation=0.1 sends one of ten events, with that "
        "`sample_rate` in its row. configure() also takes a mapping. All events of other types are sent.",
    )
    sample_errors: bool = Field(False, description="Also sample error events; otherwise, all of them are sent.")

    def options(self) -> Options:
        """The same settings in the form the producer uses."""
        given = {name: getattr(self, name) for name in option_names()}
        for name in ("redis_url", "user_hmac_key"):
            secret: SecretStr | None = given[name]
            given[name] = secret.get_secret_value() if secret is not None else None
        for name in ("extra_fields", "hmac_fields"):
            given[name] = names_in(given[name])
        return Options(**given, redis_source=self._source())

    def _source(self) -> str:
        """The variable that the Redis URL came from, for the log."""
        url = self.redis_url.get_secret_value() if self.redis_url is not None else ""
        for name in REDIS_VARIABLES:
            try:
                if url and checked_redis_url(os.environ.get(name, "")) == url:
                    return name
            except ValueError:
                continue  # that variable holds no URL, so the URL didn't come from it
        return "configure()"

    @classmethod
    def with_dotenv(cls) -> "ProducerSettings":
        """The settings as commands read them: from the environment, then from .env in the working directory."""
        return cls(_env_file=DOTENV)
