"""One way to ask before something that can't be undone."""

import sys

from rich.prompt import Confirm
from rich.text import Text

from birdfeed_cli.common.console import err
from birdfeed_cli.common.errors import Declined, WrongUse


def must_be_answerable(*, yes: bool, as_json: bool) -> None:
    """Call before work whose result is asked about.

    Raises:
        WrongUse: There is no terminal to ask on, or the output is for machines, and `--yes` was not given.
    """
    if not yes and (as_json or not (sys.stdin.isatty() and err.is_terminal)):
        raise WrongUse("can't ask for confirmation without a terminal: add --yes")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on standard error, unless `yes`; what will happen was shown before. No answer but yes is a no.

    Raises:
        Declined: The answer was no.
    """
    if not yes and not Confirm.ask(Text(question), console=err, default=False):
        raise Declined
