"""`python -m birdfeed_worker`: the pool of workers, as `birdfeed worker` runs it."""

import sys

from birdfeed_worker.start import run_pool

if __name__ == "__main__":
    sys.exit(run_pool())
