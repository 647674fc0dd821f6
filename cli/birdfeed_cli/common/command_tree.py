"""The group at the root of all commands: panels in the help, exit codes, and errors as one sentence."""

import os
from typing import Any, Final

import typer
from birdfeed_schemas.safety.untrusted import visible
from typer.core import TyperGroup

RUN, INSPECT, FIX, PRICES, TRY_OUT = PANELS = ("Run", "Inspect", "Fix", "Prices", "Try out")
#: `-h` in addition to `--help`, for every command, because contexts inherit it.
HELP: Final = {"help_option_names": ["-h", "--help"]}


class CommandTree(TyperGroup):
    """Commands return their exit code; known errors become one sentence on standard error."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the panels."""
        panels = {name: getattr(command, "rich_help_panel", None) for name, command in self.commands.items()}
        return sorted(panels, key=lambda name: PANELS.index(panels[name]) if panels[name] in PANELS else len(PANELS))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse arguments that are not text, but for the names of files; raises typer.BadParameter."""
        for arg in args:
            # Python has read bytes that are not UTF-8 as lone surrogates, which neither Redis nor JSON can hold.
            if arg.encode(errors="replace").decode() != arg and not os.path.exists(arg):
                raise typer.BadParameter(f"{visible(arg)} is not UTF-8 text")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises typer.Exit with its exit code."""
        try:
            code = super().invoke(ctx)
        except typer.Exit:
            # The help and the version end so.
            raise
        except Exception as error:
            # Imported here, so that the help and successful commands don't wait for these libraries.
            from birdfeed_cli.common.console import fail
            from birdfeed_cli.common.errors import explained

            known = explained(error)
            if known is None:
                raise
            code = fail(*known)
        raise typer.Exit(code or 0)
