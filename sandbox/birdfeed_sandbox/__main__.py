"""`python -m birdfeed_sandbox`."""

import sys

from birdfeed_sandbox.cli import main

if __name__ == "__main__":
    sys.exit(main())
