"""The entry point of the console script `birdfeed`, and of `python -m birdfeed_cli`."""

import io
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names have any characters, and an encoding such as Latin-1 not all of them; standard error does this anyway.
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
