"""Settings that producers and workers both read: where Redis is, and the names of the queue and its keys.

Each has one model, derived from this one; `birdfeed settings` and docs/reference/settings.md are made from them.
"""

from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from birdfeed_schemas.safety.redis_url import checked_redis_url
from birdfeed_schemas.safety.validation import Place, sentences


class RedisSettings(BaseSettings):
    """Read from the environment, then from a .env file in the working directory (producers read no file)."""

    model_config = SettingsConfigDict(
        env_prefix="BIRDFEED_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,  # compose files pass on unset variables as ""
        extra="ignore",
        populate_by_name=True,
    )

    redis_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("BIRDFEED_REDIS_URL", "REDIS_URL"),
        description="Redis or Valkey: redis://, rediss:// (TLS) or unix:// URL, or redis+sentinel://host:port,host:port/"
        "service/db for the master that Sentinel names (?ssl=true for TLS). With TLS, redis-py's ssl_ options may "
        "follow after ?; options for time limits and pools are ignored. BIRDFEED_REDIS_URL, else REDIS_URL.",
    )
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = Field(
        "birdfeed", description="Name of the rq queue; staging and production may share a Redis under two names."
    )
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:{}-]+$")] = Field(
        "rq", description="Prefix of rq's keys (rq's own RQ_KEY_PREFIX; workers are started with it)."
    )
    wait_replicas: Annotated[int, Field(ge=0, le=100)] = Field(
        0,
        description="Replicas that must have (WAIT) each batch before it counts as delivered, and each worker's note "
        "before it sends rows. While there are fewer, producers spool and workers wait. 0: the master alone.",
    )

    extra_fields: Annotated[str, Field(pattern=r"^[A-Za-z0-9_, ]*$")] = Field(
        "", description="Comma-separated names of fields outside the models that are sent and stored all the same."
    )

    @field_validator("redis_url")
    @classmethod
    def _readable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        return SecretStr(checked_redis_url(value.get_secret_value()))

    @property
    def allowed_extra(self) -> frozenset[str]:
        """The field names of `extra_fields`."""
        return frozenset(name.strip() for name in self.extra_fields.split(",") if name.strip())

    @property
    def redis_url_text(self) -> str:
        """The URL with its password, to connect with; never log it.

        Raises:
            ValueError: No URL is set.
        """
        if self.redis_url is None:
            raise ValueError("no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL), or start `birdfeed up`")
        return self.redis_url.get_secret_value()


def explain(error: ValidationError) -> str:
    """What is wrong with the settings, one sentence each, by environment variable and without values.

    Values may be secret.
    """
    return sentences(error, _variable)


def _variable(place: Place) -> str:
    name = "_".join(map(str, place))
    return name if name.isupper() else f"BIRDFEED_{name.upper()}"
