"""Markers for prompts, persons and secrets are put into every field, and must not be in anything that birdfeed writes.

They go through an ASGI program, the SDKs' integrations, workers and every command that shows or writes something.
tests/unit/test_guards.py switches off each filter; for the SDKs' integrations tests/integrations/test_marked.py does
that.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.marked_sdks import CONTROL
from tests.support.redis_contents import all_of
from tests.support.servers.console import TOKEN, console_process, every_page
from tests.support.servers.redis_servers import free_port, valkey
from tests.support.servers.system import System
from tests.support.wait import eventually

pytestmark = pytest.mark.slow

#: An installation, and the text found in each place.
World: TypeAlias = tuple[System, dict[str, str]]

PROMPT, PERSON, CHAT = "zqPromptMarker", "zqPersonMarker", "zqChatMarker"
PASSWORD, KEY = "zqPasswordMarker", "zqHmacKeyMarker"
PROVIDER_KEY, FILE = "sk-zqProviderKeyMarker", "zqFileMarker"
#: Text that each place must contain: otherwise a search in an empty text would pass.
KNOWN = {
    "rows": "0-good", "Redis": "image_generation", "spool": "0-good", "workers' log": "made_up", "metrics": "birdfeed_",
    "dead show": "invalid", "dead list": "unknown_event_type", "dead export": "2-bad", "dead log": "export",
    "status": "health", "ledger": "made_up", "settings": "BIRDFEED_REDIS_URL", "report csv": "gpt-4.1-nano",
    "report page": "gpt-4.1-nano", "report": "gpt-4.1-nano", "spool list": "text_generation",
    "arguments": "birdfeed_worker", "prices missing": "", "app's log": "birdfeed",
    "a refused command": "doesn't answer", "doctor": "Redis", "console, read-only": "made_up", "console": "invalid",
    "console's log": "", "SDKs' log": "could not be read", "SDKs' rows": CONTROL,
}  # fmt: skip


def arguments() -> str:
    """What `ps` shows of every process."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue  # it has exited meanwhile
    return "\n".join(found)


def hunted(system: System, page: Path) -> dict[str, str]:
    """The text in each place."""
    run, redis = system.run, system.redis
    marks = {"MARK_PROMPT": PROMPT, "MARK_PERSON": PERSON, "MARK_CHAT": CHAT}
    marks |= {"MARK_KEY": PROVIDER_KEY, "MARK_FILE": FILE}
    away = dict(system.environment, BIRDFEED_REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    found: dict[str, str] = {}
    # A provider's own names and words may be identifiers (a code, a tier); prompts are prose.
    prose = {**marks, "MARK_PROMPT": f"{PROMPT} in prose"}
    for place, app, marked in (("app's log", "marked", marks), ("SDKs' log", "marked_sdks", prose)):
        found[place] = ""
        for environment in (system.environment, away):
            ran = subprocess.run(
                [sys.executable, "-m", f"tests.support.producer.apps.{app}"],
                env={**environment, **marked, "PYTHONWARNINGS": "ignore"},
                capture_output=True,
                text=True,
                check=True,
                timeout=240,
            )
            found[place] += ran.stdout + ran.stderr
    # The store refuses once, and its answer repeats the request.
    system.sandbox.fault(on="events", auth=403, times=1)
    system.sandbox.fault(on="events", status=500, times=1, body=f"failed for {system.sandbox.append_token}")
    with httpx.Client(trust_env=False, timeout=30) as client:
        port = free_port()
        system.start_pool(1, environment={"BIRDFEED_METRICS_PORT": str(port)})
        found["arguments"] = arguments()
        system.drained()
        metrics = eventually(lambda: client.get(f"http://127.0.0.1:{port}/metrics").text, what="metrics are served")
    rows = [str(system.sandbox.sql(f"SELECT * FROM {name}")) for name in ("llm_events", "image_events")]
    rows += [str(system.sandbox.sql(f"SELECT * FROM {name}_quarantine")) for name in ("llm_events", "image_events")]
    found |= {"rows": "".join(rows), "Redis": all_of(redis)}
    found["SDKs' rows"] = str(system.sandbox.sql(f"SELECT * FROM llm_events WHERE model LIKE '%{CONTROL}'"))
    spool = [file.read_bytes() for file in (system.folder / "spool").iterdir()]
    letters = [letter.id for letter in system.dead()]
    commands = {
        "dead show": [["dead", "show", one, "--events", "9"] for one in letters],
        "dead list": [["dead", "list"], ["dead", "list", "--json"]],
        "dead export": [["dead", "export", "exported.ndjson"], ["dead", "export"]],
        "dead log": [["dead", "log", "--json"]],
        "status": [["status", "--json"], ["status"]],
        "ledger": [["ledger", "--json"]],
        "settings": [["settings"], ["settings", "--json"]],
        "report": [["report"], ["report", "--json"]],
        "report csv": [["report", "--csv"]],
        "report page": [["report", "--html", str(page)]],
        "prices missing": [["prices", "missing", "--json"]],
        "spool list": [["spool", "list"]],
        "doctor": [["doctor"], ["doctor", "--json"], ["doctor", "--send"]],
    }
    for name, lines in commands.items():
        done = [run(*line) for line in lines]
        found[name] = "".join(one.stdout + one.stderr for one in done)
        assert "Traceback" not in found[name], found[name]
    found["report page"] += page.read_text()
    for place, token in (("console, read-only", ""), ("console", TOKEN)):
        settings = {**system.environment, "BIRDFEED_CONSOLE_TOKEN": token}
        with console_process(settings.pop("BIRDFEED_REDIS_URL"), system.folder, **settings) as address:
            pages = every_page(address, token)
        # Without a token no event is shown; with one, every dead letter with its data is.
        assert {f"/dead/letters/{one}" for one in letters} <= pages.keys() or not token, sorted(pages)
        assert {"/", "/dead", "/costs", "/prices"} <= pages.keys()
        found[place] = "".join(f"{path}\n{text}" for path, text in pages.items())
    found["console's log"] = (system.folder / "console.log").read_text()
    system.environment.update(BIRDFEED_REDIS_URL=away["BIRDFEED_REDIS_URL"])
    refused = run("status")
    found["a refused command"] = refused.stdout + refused.stderr
    found["spool"] = "".join(one.decode("latin-1") for one in spool)
    found["metrics"] = metrics
    found["workers' log"] = system.said()
    return found


@pytest.fixture(scope="module")
def world(sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A whole installation that was used once, and the text found in each place."""
    folder = tmp_path_factory.mktemp("markers")
    sandbox_process.clear_faults()
    sandbox_process.reset()
    settings = {
        "BIRDFEED_USER_HMAC_KEY": KEY,
        "BIRDFEED_HMAC_FIELDS": "user,username,chat_id,cache_key",
        "BIRDFEED_COMPRESSION": "0",
        "BIRDFEED_LOG_LEVEL": "debug",
    }
    before = os.umask(0)
    try:
        with valkey(folder / "valkey") as url:
            with Redis.from_url(url) as admin:
                admin.config_set("requirepass", PASSWORD)
            secured = url.replace("redis://", f"redis://:{PASSWORD}@")
            with System(secured, sandbox_process, folder, **settings) as system:
                assert system.keys == Keys("rq", "birdfeed")
                yield system, hunted(system, folder / "page.html")
                system.environment.update(BIRDFEED_REDIS_URL=secured)
    finally:
        os.umask(before)
        sandbox_process.clear_faults()


@pytest.mark.parametrize("place", sorted(KNOWN))
def test_no_marker_is_left(world: World, place: str) -> None:
    """No prompt, person's name, chat, password, key or token; but the known text is found."""
    system, found = world
    secrets = {
        "prompt": PROMPT, "person": PERSON, "chat": CHAT, "password": PASSWORD, "HMAC key": KEY,
        "provider's key": PROVIDER_KEY, "file": FILE,
        "append token": system.sandbox.append_token, "read token": system.sandbox.read_token,
    }  # fmt: skip

    assert KNOWN[place] in found[place]
    assert [name for name, secret in secrets.items() if secret in found[place]] == []


def test_no_file_is_readable_by_others(world: World) -> None:
    """With a umask of 0: birdfeed sets the mode of each file it writes."""
    system, _ = world
    made = [system.folder / "page.html", system.folder / "exported.ndjson", *(system.folder / "spool").iterdir()]

    assert len(made) > 2
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in made if path.stat().st_mode & 0o077} == {}
    assert stat.S_IMODE((system.folder / "spool").stat().st_mode) == 0o700


def test_every_place_is_checked(world: World) -> None:
    """The test names exactly the places that are collected."""
    assert world[1].keys() == KNOWN.keys()
