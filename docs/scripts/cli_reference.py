"""Generate docs/reference/cli.md from the commands: `python -m docs.scripts.cli_reference`."""

from collections.abc import Iterator
from typing import Any

from birdfeed_cli.app import app
from typer.main import get_command

INTRODUCTION = """\
# Command line

<!-- made by `make docs`; a test fails if it is out of date -->

`birdfeed COMMAND --help` prints the same. What an exit code means: [Exit codes](outcomes.md#exit-codes).
"""


def reference() -> str:
    """Every command that the help shows, with its arguments and options, as Markdown."""
    return "\n".join([INTRODUCTION, *_command(get_command(app), "birdfeed", level=2)])


# Commands are of Click's classes, or of the copy that newer releases of Typer carry: hence Any.
def _command(command: Any, path: str, level: int) -> Iterator[str]:
    if hasattr(command, "commands"):
        if " " in path:
            yield from (f"{'#' * level} {path}", "", _line(command.help), "")
            level += 1
        for name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield from _command(inner, f"{path} {name}", level)
        return
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [_metavar(one) for one in shown if one.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(arguments) < len(shown) else []
    yield from (f"{'#' * level} {path}", "", _line(command.help), "")
    yield from ("```text", " ".join([path, *options, *arguments]), "```", "")
    if shown:
        yield from ("| argument or option | default | meaning |", "| --- | --- | --- |")
        yield from (_parameter(one) for one in shown)
        yield ""


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs != 1 else ""
    return name if argument.required else f"[{name}]"


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{_metavar(parameter)}`"
    else:
        name = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default is None or default is False or default in ((), []):
        shown = ""
    else:
        shown = f"`{default}`"
    return f"| {name} | {shown} | {_line(parameter.help)} |"


def _line(text: str | None) -> str:
    """A text on one line, with table borders and tags escaped for Markdown."""
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")
