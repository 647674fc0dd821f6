"""Ask for confirmation before an action that can't be undone."""

import sys

from rich.prompt import Confirm
from rich.text import Text

from birdfeed_cli.common.console import err
from birdfeed_cli.common.errors import Declined, WrongUse


def must_be_answerable(*, yes: bool, as_json: bool) -> None:
    """Check that a question can be asked; call it before the work that leads to the question.

    Raises:
        WrongUse: There is no terminal to ask on, or the output is JSON, and `--yes` was not given.
    """
    if not yes and (as_json or not (sys.stdin.isatty() and err.is_terminal)):
        raise WrongUse("can't ask for confirmation without a terminal: add --yes")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on standard error, unless `yes`; the caller has shown what will happen. Any answer except yes means no.

    Raises:
        Declined: The answer was no.
    """
    if not yes and not Confirm.ask(Text(question), console=err, default=False):
        raise Declined("declined; nothing was changed")
