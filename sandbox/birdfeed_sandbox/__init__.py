"""A Tinybird on your own machine, for development and tests: Events API, SQL API and endpoints over chDB.

python -m birdfeed_sandbox --help

from birdfeed_sandbox import Sandbox

with Sandbox() as tinybird:
    print(tinybird.url, tinybird.append_token)
"""

from birdfeed_sandbox.errors import SandboxError
from birdfeed_sandbox.process import Sandbox

__all__ = ["Sandbox", "SandboxError"]
