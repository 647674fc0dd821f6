"""`python -m birdfeed_worker`: run the pool of workers, as `birdfeed worker` does."""

import sys

from birdfeed_worker.process.main import run_pool

if __name__ == "__main__":
    sys.exit(run_pool())
