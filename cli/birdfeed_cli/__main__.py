"""The entry point of the console script `birdfeed`."""

import sys


def main() -> None:
    """Run the command line, or say which extra is missing."""
    try:
        from birdfeed_cli.app import app
    except ModuleNotFoundError as error:
        print(
            f"birdfeed: the command line needs the package {error.name!r}; install it with "
            "`pip install 'birdfeed[worker]'`",
            file=sys.stderr,
        )
        sys.exit(2)
    app()
