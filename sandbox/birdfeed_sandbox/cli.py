"""`python -m birdfeed_sandbox`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import ipaddress
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from birdfeed_schemas.safety.private_files import private_folder

from birdfeed_sandbox.datafiles.project import load_project, packaged_project
from birdfeed_sandbox.errors import SandboxError
from birdfeed_sandbox.settings import MANIFEST, TOKENS, Settings, token_of, token_variable


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m birdfeed_sandbox",
        description="A Tinybird on your own machine: Events API, SQL API and endpoints over chDB."
        " For development and tests, never for production: anybody with the admin token can make it fail on purpose.",
        epilog="New tokens are made at each start, unless --token-dir keeps them or the environment has them: "
        + ", ".join(map(token_variable, TOKENS))
        + ".",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port to listen on; 0: any free port (default: %(default)s)")
    add("--allow-remote", action="store_true", help="allow a --host that other machines can reach")
    add("--project", type=Path, metavar="DIR", help="datasources/ and endpoints/ (default: birdfeed's own)")
    add(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where to keep rows (default: they are lost at the end)",
    )
    add("--token-dir", type=Path, metavar="DIR", help="keep the tokens in files here, created if missing")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer requests for this host name, besides localhost and IP addresses",
    )
    add(
        "--requests-per-second",
        type=_positive,
        default=100.0,
        metavar="N",
        help="a data source (default: 100)",
    )
    add(
        "--max-body-bytes",
        type=int,
        default=10_000_000,
        metavar="N",
        help="after decompression (default: 10 MB)",
    )
    add("--port-file", type=Path, metavar="FILE", help="write the port here once requests are accepted")
    add("--parent-fd", type=int, metavar="FD", help="exit when the other end of this pipe is closed")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    command = parser()
    options = command.parse_args(arguments)
    if not options.allow_remote and not _is_loopback(options.host):
        command.error(f"--host {options.host} can be reached by other machines: add --allow-remote if that is intended")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return _run(options)
    except (SandboxError, OSError) as error:
        print(f"birdfeed sandbox: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    project = load_project(options.project if options.project is not None else packaged_project())
    try:
        from birdfeed_sandbox.http.server import listen, serve
        from birdfeed_sandbox.http.state import Service
        from birdfeed_sandbox.store.workspace import Workspace
    except ModuleNotFoundError as error:
        raise SandboxError(f"{error.name} is missing: pip install 'birdfeed[sandbox]'") from error
    tokens = {f"{kind}_token": token_of(kind, os.environ, options.token_dir) for kind in TOKENS}
    settings = Settings(
        **tokens,
        requests_per_second=options.requests_per_second,
        max_body_bytes=options.max_body_bytes,
    )
    os.umask(0o077)  # only this user may read rows and tokens
    # A body of 10,000 rows makes as many short-lived dicts: searching them for cycles takes a third of the time.
    gc.set_threshold(200_000, 20, 20)
    with (
        _data_dir(options.data_dir) as folder,
        contextlib.closing(listen(options.host, options.port)) as listener,
    ):
        port = listener.getsockname()[1]

        def on_ready() -> None:
            host = f"[{options.host}]" if ":" in options.host else options.host
            print(f"birdfeed sandbox (for development and tests) at http://{host}:{port}")
            made = {kind: tokens[f"{kind}_token"] for kind in TOKENS if not os.environ.get(token_variable(kind))}
            for kind, token in made.items():
                print(f"{kind} token: {token if options.token_dir is None else options.token_dir / f'{kind}.token'}")
            sys.stdout.flush()
            if options.port_file is not None:
                _write_at_once(options.port_file, str(port))

        serve(
            Service(settings, lambda: Workspace(project, folder)),
            listener,
            on_ready=on_ready,
            parent_fd=options.parent_fd,
            host_names=options.allow_host,
        )
    return 0


@contextlib.contextmanager
def _data_dir(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        private_folder(folder, ours=MANIFEST)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="birdfeed-sandbox-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def _write_at_once(path: Path, text: str) -> None:
    """Write a file atomically: a reader never sees a part of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _positive(text: str) -> float:
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number
