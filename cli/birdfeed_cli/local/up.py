"""`birdfeed up`: everything that birdfeed needs, on this machine, until Ctrl-C."""

import os
import signal
import threading
from pathlib import Path

from birdfeed_schemas.safety.urls import shown
from birdfeed_worker.settings import WorkerSettings

from birdfeed_cli.common.console import OK, PARTLY, USAGE, fail, out
from birdfeed_cli.local.services import FolderError, Stack, StackError


def run_up(data_dir: Path, processes: int | None, redis_port: int | None, tinybird_port: int | None) -> int:
    """Start, print how to reach each part, wait for Ctrl-C or SIGTERM, stop. Exit code 1 if a part ended by itself."""
    settings = WorkerSettings.load()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stack = Stack(
        data_dir.resolve(),
        redis_url=settings.redis_url_text if settings.redis_url is not None else None,
        tinybird_host=settings.tinybird_host,
        redis_port=redis_port,
        tinybird_port=tinybird_port,
    )
    try:
        with stack:
            pool = stack.start_pool(processes)
            _say(stack)
            while not stop.wait(0.5):
                if pool.poll() is not None:
                    return fail(f"the workers stopped (exit code {pool.returncode}); see their log above", PARTLY)
                if stack.sandbox is not None and stack.sandbox.poll() is not None:
                    return fail(
                        f"the sandbox Tinybird stopped (exit code {stack.sandbox.returncode}); see its log above",
                        PARTLY,
                    )
                if stack.valkey is not None and not stack.valkey.is_running():
                    return fail(f"the embedded Valkey stopped; its log is {stack.valkey.log_path}", PARTLY)
            out.print("stopping")
    except FolderError as error:
        return fail(str(error), USAGE)
    except StackError as error:
        return fail(str(error), PARTLY)
    out.print("stopped")
    return OK


def _say(stack: Stack) -> None:
    """Print how to reach each part, as lines to paste into a shell."""
    where = "embedded Valkey, append-only file on" if stack.valkey is not None else "from your settings"
    out.print(f"Redis     {shown(stack.environment['BIRDFEED_REDIS_URL'])}  ({where})")
    store = "sandbox, for development and tests" if stack.sandbox is not None else "from your settings"
    out.print(f"Tinybird  {stack.environment['TINYBIRD_HOST']}  ({store})")
    if stack.valkey is not None or stack.sandbox is not None:
        out.print(f"data      {stack.data_dir}")
    out.print()
    out.print("In another terminal:", style="bold")
    out.print()
    for name, value in stack.environment.items():
        if name == "BIRDFEED_REDIS_URL" and stack.valkey is None:
            continue
        out.print(f"  export {name}={value}", soft_wrap=True)
    out.print(
        "  echo '" + '{"event_type":"text_generation","event_data":{"model":"openai","usage":{"prompt_tokens":9}}}'
        "' | birdfeed send -",
        soft_wrap=True,
    )
    out.print(f"Ctrl-C stops everything (this process is {os.getpid()}).")
