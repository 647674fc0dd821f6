"""The worker pool's settings. docs/reference/settings.md and `birdfeed settings` are made from this model."""

import unicodedata
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from birdfeed_schemas.settings import RedisSettings, explain
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from birdfeed_worker.errors import ConfigurationError

#: The bounds keep a mistyped number from doing harm: Python can't wait for 10^10 seconds, and Redis's scripts know no
#: whole numbers above 10^15.
MAX_PROCESSES: Final = 1_000
Seconds = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
#: Sockets wait for milliseconds of 32 bits.
Timeout = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=10**15, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=10**9)]


class WorkerSettings(RedisSettings):
    """Where to write, how much at once, and for how long to retry."""

    tinybird_host: str | None = Field(
        None,
        validation_alias="TINYBIRD_HOST",
        description="Your workspace's API host with its region, such as https://api.us-east.tinybird.co. Required.",
    )
    tinybird_token: SecretStr | None = Field(
        None,
        validation_alias="TINYBIRD_TOKEN",
        description="Token that may APPEND to the data sources. Required, here or in a file.",
    )
    tinybird_token_file: Path | None = Field(
        None,
        validation_alias="TINYBIRD_TOKEN_FILE",
        description="File with that token; read again when the token is refused, so that a rotation needs no restart.",
    )
    tinybird_read_token: SecretStr | None = Field(
        None,
        validation_alias="TINYBIRD_READ_TOKEN",
        description="Token that may READ the data sources: workers ask what was written before they send again.",
    )
    tinybird_read_token_file: Path | None = Field(
        None,
        validation_alias="TINYBIRD_READ_TOKEN_FILE",
        description="File with that token; read again in the same way.",
    )
    tinybird_delete_token: SecretStr | None = Field(
        None,
        validation_alias="TINYBIRD_DELETE_TOKEN",
        description="Token with the scope DATASOURCES:CREATE, for `birdfeed forget --execute`; workers don't use it.",
    )
    tinybird_delete_token_file: Path | None = Field(
        None, validation_alias="TINYBIRD_DELETE_TOKEN_FILE", description="File with that token."
    )
    processes: Annotated[int, Field(gt=0, le=MAX_PROCESSES)] = Field(2, description="Worker processes in the pool.")
    request_bytes: Annotated[int, Field(ge=1_000, le=100_000_000)] = Field(
        5_000_000, description="Most bytes of NDJSON, before compression, in one request to Tinybird."
    )
    request_rows: Count = Field(10_000, description="Most rows in one request to Tinybird.")
    requests_at_once: Annotated[int, Field(gt=0, le=16)] = Field(
        4,
        description="Most requests that a worker process sends at the same time while there is a backlog; it reserves "
        "enough jobs to fill them.",
    )
    reserve_jobs: Annotated[int, Field(gt=0, le=2_000)] = Field(
        1_000,
        description="Most jobs that a worker takes from the queue at once; taking 1,000 blocks Redis for about 15 ms.",
    )
    connect_timeout: Timeout = Field(5.0, description="Seconds to wait for a connection to Tinybird.")
    read_timeout: Timeout = Field(
        45.0, description="Seconds to wait for Tinybird's answer; with wait=true it includes a flush."
    )
    settle_seconds: Annotated[float, Field(ge=0, le=10**9)] = Field(
        60.0, description="After a request with unknown outcome: seconds until Tinybird is asked what it wrote."
    )
    retry_base: Seconds = Field(1.0, description="Seconds to wait after the first failed request; doubles each time.")
    retry_cap: Seconds = Field(60.0, description="Most seconds to wait between tries.")
    give_up_after: Seconds = Field(
        86_400.0,
        description="Seconds after which a job is dead-lettered, counted only while its destination takes other rows.",
    )
    requests_per_second: Rate = Field(
        100.0, description="Most requests a second per data source, for the whole pool together."
    )
    bytes_per_second: Rate = Field(
        20_000_000.0, description="Most bytes a second per data source (before compression), for the whole pool."
    )
    bisect_requests: Count = Field(
        64, description="Most requests spent on finding the bad rows of one refused request."
    )
    lease_seconds: Annotated[int, Field(ge=5, le=60)] = Field(
        20,
        description="Seconds of a worker's lease on its jobs, which it renews. A lost worker's jobs are free after it.",
    )
    redis_check: Literal["warn", "refuse"] = Field(
        "warn",
        description="If Redis can lose events (it evicts, or keeps no append-only file): warn, or refuse to start.",
    )
    stop_timeout: Seconds = Field(
        25.0, description="After SIGTERM: seconds to finish what is in flight before it is given back."
    )
    breaker_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="If more than this share of an event type's recent events would fail for one reason, the type "
        "pauses until `birdfeed resume`; 1: never.",
    )
    breaker_events: Annotated[int, Field(ge=10, le=1_000_000)] = Field(
        100,
        description="Fewest recent events of a type before the breaker can trip; it remembers five times as many.",
    )
    dead_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        500_000_000, description="Most bytes of Redis for dead letters; the oldest are purged, and counted. 0: no cap."
    )
    dead_days: Annotated[float, Field(ge=0, le=10**6)] = Field(
        30.0, description="Days after its last failure when a dead event is purged, and counted. 0: never."
    )
    keep_traceback: bool = Field(False, description="Store tracebacks of errors; they can contain parts of prompts.")
    price_book: Path | None = Field(
        None, description="Your own price book (TOML); its entries override the shipped ones."
    )
    price_fallback: bool = Field(
        True, description="Price text models that are in no book with the genai-prices package."
    )
    tiers: str = Field(
        "",
        description="Where tiers are looked up: redis:<hash key>, https://... (auth service), file:<path>, or nothing.",
    )
    tier_timeout: Timeout = Field(1.0, description="Most seconds the tier lookups of one batch may take.")
    tier_ttl: Seconds = Field(300.0, description="Seconds for which an answer of the tier lookup is cached.")
    schema_check: Literal["off", "warn", "refuse"] = Field(
        "warn",
        description="At start, compare the store's columns with what is sent; warn of mismatches, or refuse to start.",
    )
    schema_check_seconds: Seconds = Field(
        600.0,
        description="Seconds between such comparisons while workers run; `birdfeed status` shows the last result.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address on which the launcher serves /metrics, /healthz and /readyz."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9808,
        description="Port for them; 0: not served. If it is in use, a warning is logged and workers run all the same.",
    )
    console_host: str = Field(
        "127.0.0.1",
        description="Address of `birdfeed console`; an address that other machines can reach needs a token.",
    )
    console_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9809, description="Port of `birdfeed console`; 0: any free port."
    )
    console_on_metrics_port: bool = Field(
        False,
        description="Also serve the console on the launcher's port, next to /metrics: one process and one port fewer.",
    )
    console_names: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:, -]*$")] = Field(
        "", description="Comma-separated host names of the console for browsers, besides localhost and IP addresses."
    )
    console_token: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None,
        description="Token for signing in to the console, to see events' data and to replay (16 characters or more). "
        "Without one, the console is read-only and shows no event's data.",
    )
    console_token_file: Path | None = Field(None, description="File with that token.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Format of log lines; auto: console on a terminal, json elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @field_validator("tinybird_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parts = urlsplit(value)
            port_is_one = parts.port != 0
        except ValueError:
            port_is_one = False
        if not port_is_one or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("TINYBIRD_HOST must be a URL such as https://api.us-east.tinybird.co")
        if parts.username or parts.password or parts.query or parts.path not in {"", "/"}:
            raise ValueError("TINYBIRD_HOST must be only scheme and host, such as https://api.us-east.tinybird.co")
        if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("TINYBIRD_HOST uses http, which is allowed for this machine only; use https")
        return value.rstrip("/")

    @property
    def host(self) -> str:
        """The API host; raises ConfigurationError if none is set."""
        if self.tinybird_host is None:
            raise ConfigurationError(
                "TINYBIRD_HOST is not set; set it to your workspace's API host, such as "
                "https://api.us-east.tinybird.co (there is no default region), or start `birdfeed up`"
            )
        return self.tinybird_host

    @field_validator("tinybird_token", "tinybird_read_token", "tinybird_delete_token", "console_token")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(sendable(value.get_secret_value()))

    @model_validator(mode="after")
    def _one_place_for_each_token(self) -> Self:
        for name, token, path in (
            ("TINYBIRD_TOKEN", self.tinybird_token, self.tinybird_token_file),
            ("TINYBIRD_READ_TOKEN", self.tinybird_read_token, self.tinybird_read_token_file),
            ("TINYBIRD_DELETE_TOKEN", self.tinybird_delete_token, self.tinybird_delete_token_file),
            ("BIRDFEED_CONSOLE_TOKEN", self.console_token, self.console_token_file),
        ):
            if token is not None and path is not None:
                raise ValueError(f"{name} and {name}_FILE are both set; set one of them")
        return self

    @property
    def has_read_token(self) -> bool:
        """Whether Tinybird can be asked which events it has."""
        return bool(self.tinybird_read_token_file or (self.tinybird_read_token or SecretStr("")).get_secret_value())

    @classmethod
    def load(cls) -> Self:
        """The settings from the environment and .env; raises ConfigurationError."""
        try:
            return cls()
        except ValidationError as error:
            raise ConfigurationError(f"invalid settings: {explain(error)}") from None


def sendable(token: str) -> str:
    """A token without surrounding white space; raises ValueError if it can't be sent in an HTTP header.

    The message names the character and its position, but never the token.
    """
    text = token.strip()
    for place, character in enumerate(text, 1):
        if not "!" <= character <= "~":
            name = unicodedata.name(character, "a control character")
            raise ValueError(
                f"character {place} of the token is U+{ord(character):04X} ({name}), which no HTTP header can carry; "
                "copy the token again"
            )
    return text
