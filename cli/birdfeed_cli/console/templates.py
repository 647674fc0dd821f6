"""The pages' templates. All text is escaped, and invisible characters are replaced by visible ones."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from birdfeed_schemas.safety.untrusted import visible
from birdfeed_schemas.tables.counted import counted
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from birdfeed_cli.common.money import usd
from birdfeed_cli.common.time_spans import age

FOLDER: Final = Path(__file__).parent


@cache
def environment() -> Environment:
    """The templates' environment, with the functions that they call."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["newline"] = Markup("\n")  # joins the lines of a text; newlines inside a line are replaced
    made.filters.update(
        number=lambda value: f"{value:,}",
        counted=counted,
        rate=lambda value: f"{value:,.1f}",
        share=lambda value: f"{value:.1%}",
        megabytes=lambda value: f"{value / 1e6:,.1f} MB",
        age=age,
        usd=usd,
        commands=commands,
        stamp=lambda text: text[:19].replace("T", " "),
        clock=lambda at: f"{datetime.fromtimestamp(at, UTC):%H:%M}",
    )
    return made


def render(name: str, values: Mapping[str, Any]) -> str:
    """Render a page."""
    return environment().get_template(name).render(values)


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def commands(message: str) -> Markup:
    """A sentence in which commands between backticks are marked up as code."""
    parts = [Markup.escape(visible(part)) for part in message.split("`")]
    if len(parts) % 2 == 0:  # a name contains a backtick
        return Markup.escape(visible(message))
    return Markup().join(Markup("<code>{}</code>").format(part) if nth % 2 else part for nth, part in enumerate(parts))
