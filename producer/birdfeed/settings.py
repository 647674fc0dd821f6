"""Settings of the producer. docs/reference/settings.md and `birdfeed settings` are made from this model."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from birdfeed_schemas.settings import RedisSettings
from pydantic import Field, SecretStr

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class ProducerSettings(RedisSettings):
    """How events wait in the handler's process and leave it. With no Redis URL telemetry is off."""

    enabled: bool = Field(True, description="False turns telemetry off: track_event returns at once.")
    flush_interval: Seconds = Field(
        0.2, description="Seconds between flushes: the most that a killed process loses, with durability=buffer."
    )
    batch_events: Annotated[int, Field(gt=0, le=10_000)] = Field(500, description="Most events in one job.")
    batch_bytes: Annotated[int, Field(ge=1_000, le=50_000_000)] = Field(
        512_000, description="Most bytes of events in one job, before compression; a larger event travels alone."
    )
    buffer_events: Count = Field(100_000, description="Most events waiting in memory.")
    buffer_bytes: Count = Field(64_000_000, description="Most bytes of events waiting in memory.")
    max_event_bytes: Count = Field(1_000_000, description="A larger event is refused (reason too_large).")
    drop_policy: Literal["newest", "oldest"] = Field(
        "newest", description="What is given up when the buffer or the spool is full: the newest or the oldest events."
    )
    durability: Literal["buffer", "spool"] = Field(
        "buffer",
        description="spool: each event is on disk before track_event returns, so that a SIGKILL loses none; "
        "costs tens of microseconds a call.",
    )
    spool_dir: Path | None = Field(
        None,
        description="Directory of the disk spool, shared by the processes of a host. "
        "Default: birdfeed in $XDG_STATE_HOME or ~/.local/state, else one in the temporary directory.",
    )
    spool_bytes: Annotated[int, Field(ge=0)] = Field(
        256_000_000, description="Most bytes of events on disk (compressed, mostly); 0 turns the spool off."
    )
    spool_drain_rate: Annotated[float, Field(gt=0)] = Field(
        5_000.0, description="Events per second that each process sends from the spool when Redis is back."
    )
    user_hmac_key: SecretStr | None = Field(
        None, description="With a key, user and username leave the process only as HMAC-SHA256 (32 hex digits)."
    )
    keep_traceback: bool = Field(
        False, description="Send tracebacks of tracked exceptions; they can hold parts of prompts."
    )
    close_timeout: Seconds = Field(
        5.0, description="Seconds that flush() and close(), so also the process's exit, may take."
    )
    sigterm_hook: bool = Field(
        False,
        description="Turn SIGTERM into an orderly exit where the program has no handler of its own for it. Takes "
        "effect at the first event, or start(), in the main thread.",
    )
    redis_timeout: Seconds = Field(1.0, description="Seconds to wait for Redis: for a connection, and for an answer.")
    compression: Annotated[int, Field(ge=0, le=9)] = Field(
        1,
        description="zlib level of jobs: 1 is quickest, 9 smallest, 0 none. 1 gives about 35 bytes an event in a full "
        "batch.",
    )

    @property
    def on(self) -> bool:
        """Whether events are sent at all."""
        return self.enabled and self.redis_url is not None

    @property
    def hmac_key(self) -> bytes | None:
        """The key for users' names, or None where they are sent as they are."""
        if self.user_hmac_key is None or not self.user_hmac_key.get_secret_value():
            return None
        return self.user_hmac_key.get_secret_value().encode()

    @property
    def spool_directory(self) -> Path:
        """Where the spool is; not made by asking."""
        return self.spool_dir if self.spool_dir is not None else default_spool_directory()


def default_spool_directory() -> Path:
    """The user's state directory, or a directory of the user's own among the temporary ones."""
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "birdfeed"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/nonexistent")
    if os.access(home, os.W_OK):
        return home / ".local" / "state" / "birdfeed"
    user = os.getuid() if sys.platform != "win32" else "user"
    return Path(tempfile.gettempdir()) / f"birdfeed-{user}"
