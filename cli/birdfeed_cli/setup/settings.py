"""`birdfeed settings`: every setting with its value, source and meaning."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from birdfeed.settings import DOTENV, ProducerSettings
from birdfeed_schemas.safety import urls
from birdfeed_schemas.settings import RedisSettings
from birdfeed_worker.settings import WorkerSettings
from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from rich.padding import Padding
from rich.text import Text

from birdfeed_cli.common.console import OK, out, print_json


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its side (producer, worker or both), its variables, its value for display, and its source."""

    side: str
    names: tuple[str, ...]
    value: str
    source: str
    meaning: str


def run_settings(*, as_json: bool) -> int:
    """Print all settings."""
    shown = list(current())
    if as_json:
        print_json(list(map(asdict, shown)))
        return OK
    for s in shown:
        name = Text(" or ".join(s.names), style="bold")
        out.print(name, Text(f"= {s.value}"), Text(f"({s.source}; {s.side})", style="dim"), soft_wrap=True)
        out.print(Padding(s.meaning, (0, 0, 0, 4)))
    return OK


def current() -> Iterator[Setting]:
    """Every setting with its current value; raises pydantic.ValidationError."""
    producer, worker = ProducerSettings.with_dotenv(), WorkerSettings()
    for (side, fields), loaded in zip(sides().items(), (producer, producer, worker), strict=True):
        for field, info in fields.items():
            names = names_of(field, info)
            yield Setting(side, names, show(getattr(loaded, field)), source_of(names), info.description or "")


def sides() -> dict[str, dict[str, FieldInfo]]:
    """The fields of both sides, then those that only the producer or the worker has."""
    both = RedisSettings.model_fields
    found = {"both": both, "producer": ProducerSettings.model_fields, "worker": WorkerSettings.model_fields}
    return {
        side: {n: f for n, f in fields.items() if side == "both" or n not in both} for side, fields in found.items()
    }


def names_of(field: str, info: FieldInfo) -> tuple[str, ...]:
    """The environment variables from which a setting is read; the first that is set wins."""
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    if alias is not None:
        return (str(alias),)
    return (f"BIRDFEED_{field.upper()}",)


def source_of(names: tuple[str, ...]) -> str:
    """Where the value comes from: the environment, .env, or the default."""
    environment = {name.upper() for name, value in os.environ.items() if value}
    dotenv = {name.upper() for name, value in dotenv_values(DOTENV).items() if value}
    for where, known in (("environment", environment), (".env", dotenv)):
        for name in names:
            if name in known:
                return f"{where}: {name}" if len(names) > 1 else where
    return "default"


def show(value: Any) -> str:
    """A value for display: secrets are masked, URLs have no user, password and query."""
    if value is None:
        return "(none)"
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return urls.shown(text) if "://" in text else "********" if text else "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and "://" in value:
        return urls.shown(value)
    return str(value) if value != "" else '""'
