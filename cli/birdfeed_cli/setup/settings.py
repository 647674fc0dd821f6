"""`birdfeed settings`: every setting with its value, source and meaning; makes docs/reference/settings.md."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
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
    """One setting: the side it belongs to, the names it is read from, its value as it may be shown, and its source."""

    side: str
    names: tuple[str, ...]
    value: str
    source: str
    default: str
    meaning: str


def run_settings(*, as_json: bool, markdown: bool) -> int:
    """Print them."""
    if markdown:
        print(reference(), end="")
        return OK
    shown = list(current())
    if as_json:
        print_json(
            [
                {"side": s.side, "names": s.names, "value": s.value, "source": s.source, "meaning": s.meaning}
                for s in shown
            ]
        )
        return OK
    for s in shown:
        name = Text(" or ".join(s.names), style="bold")
        out.print(name, Text(f"= {s.value}"), Text(f"({s.source}; {s.side})", style="dim"), soft_wrap=True)
        out.print(Padding(s.meaning, (0, 0, 0, 4)))
    return OK


def current() -> Iterator[Setting]:
    """Every setting as it is now; raises pydantic.ValidationError."""
    for side, loaded in (("producer", ProducerSettings.with_dotenv()), ("worker", WorkerSettings())):
        model = type(loaded)
        for field, info in model.model_fields.items():
            if field in RedisSettings.model_fields:
                if side == "worker":
                    continue
                shown_side = "both"
            else:
                shown_side = side
            names = names_of(field, info)
            yield Setting(
                shown_side,
                names,
                show(getattr(loaded, field)),
                source_of(names),
                show(info.get_default(call_default_factory=True)),
                info.description or "",
            )


def names_of(field: str, info: FieldInfo) -> tuple[str, ...]:
    """The environment variables a setting is read from, first wins."""
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
    """A value as it may be shown: secrets masked, URLs without user, password and query."""
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


def reference() -> str:
    """docs/reference/settings.md, made from the models."""
    lines = [
        "# Settings",
        "",
        "<!-- made by `birdfeed settings --markdown`; a test fails if it is out of date -->",
        "",
        "Read from the environment; commands and workers then read `.env` in the working directory, a handler's "
        "process does not. `birdfeed settings` shows the values in force and where each comes from.",
        "",
    ]
    for title, model in (
        ("Both sides", RedisSettings),
        ("Producer", ProducerSettings),
        ("Worker", WorkerSettings),
    ):
        lines += [f"## {title}", "", "| setting | default | meaning |", "| --- | --- | --- |"]
        for field, info in model.model_fields.items():
            if model is not RedisSettings and field in RedisSettings.model_fields:
                continue
            names = " or ".join(f"`{name}`" for name in names_of(field, info))
            default = show(info.get_default(call_default_factory=True))
            lines.append(f"| {names} | `{default}` | {info.description} |")
        lines.append("")
    return "\n".join(lines)
