"""docs/reference/json.md: the shapes it documents are those that the commands print, key by key and type by type."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from birdfeed_cli.app import app
from birdfeed_sandbox.process import Sandbox
from typer.main import get_command

from tests.support.events import text
from tests.support.repository import DOCS
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System

BOOK = """
[[model]]
name = "mine"
aliases = ["gpt-4.1", "dall-e"]
unit = "token"
price = { prompt_text = 3, completion_text = 4 }

[[model]]
name = "flux"
unit = "image"
price = [{ until = 2025-03-01, image = 0.1 }, { from = 2025-03-01, image = 0.003, variants = [\
{ when = { quality = "hd" }, image = 0.01 }] }]
"""
BAD_BOOK = BOOK.replace("prompt_text = 3", "prompt_text = -3")
TRIPPED = json.dumps({"reason": "invalid", "dead": 9, "seen": 9, "since": 1})
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}
TRACK = "import birdfeed; birdfeed.track_event('text_generation', {'model': 'm'}); birdfeed.close(5)"
#: Types of the page, and what JSON has for them.
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "true or false": (bool,),
    "null": (type(None),),
    "any": (object,),
}


def documented() -> dict[str, Any]:
    """Shapes by the command that prints them."""
    page = next(path for path in DOCS.rglob("json.md")).read_text()
    found = re.findall(r"^## `birdfeed (.+?)`\n.*?```json\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    return {command: json.loads(shape) for command, shape in found}


def compare(shape: Any, value: Any, path: str, seen: set[str]) -> Iterator[str]:
    """What differs between a shape and a value, one sentence each; paths whose shape was compared go to `seen`."""
    seen.add(path)
    if isinstance(shape, str):
        kind = shape.partition(":")[0]
        kinds = [kind] if kind in TYPES else kind.split(" or ")
        allowed = tuple(one for name in kinds for one in TYPES[name])
        if not isinstance(value, allowed) or (isinstance(value, bool) and not {bool, object} & set(allowed)):
            yield f"{path} is {value!r}, not {kind}"
    elif type(shape) is not type(value):
        yield f"{path} is {value!r}, not a {type(shape).__name__}"
    elif isinstance(shape, list):
        for one in value:
            yield from compare(shape[0], one, f"{path}[]", seen)
    else:
        yield from compare_keys(shape, value, path, seen)


def compare_keys(shape: dict[str, Any], value: dict[str, Any], path: str, seen: set[str]) -> Iterator[str]:
    rest = dict(value)
    for name, inner in shape.items():
        if name.startswith("<"):
            continue
        key = name.removesuffix("?").removesuffix(" or null")
        if key not in rest:
            if not name.endswith("?"):
                yield f"{path}.{key} is missing"
            continue
        given = rest.pop(key)
        if given is not None or not name.endswith(" or null"):
            yield from compare(inner, given, f"{path}.{name}", seen)
    any_key = next((name for name in shape if name.startswith("<")), None)
    for key, given in rest.items():
        if any_key is None:
            yield f"{path}.{key} is not documented"
        else:
            yield from compare(shape[any_key], given, f"{path}.{any_key}", seen)


def paths(shape: Any, path: str) -> Iterator[str]:
    """Every path of a shape."""
    yield path
    if isinstance(shape, list):
        yield from paths(shape[0], f"{path}[]")
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            yield from paths(inner, f"{path}.{name}")


def commands_with_json() -> Iterator[str]:
    """Every visible command that has --json."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[str]:
        for name, inner in getattr(command, "commands", {}).items():
            if not inner.hidden:
                yield from walk(inner, (*words, name))
        if any("--json" in option.opts for option in command.params):
            yield " ".join(words)

    yield from walk(get_command(app), ())


@pytest.mark.parametrize("command", list(commands_with_json()))
def test_every_command_with_json_is_on_the_page(command: str) -> None:
    """The last test runs every command on the page."""
    assert [heading for heading in documented() if heading.startswith(f"{command} ")] != []


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        ({"a": "text"}, {"a": 1}, ["x.a is 1, not text"]),
        ({"a": "integer"}, {"a": True}, ["x.a is True, not integer"]),
        ({"a": "number or null"}, {"a": None}, []),
        ({"a": "integer"}, {}, ["x.a is missing"]),
        ({"a?": "integer"}, {}, []),
        ({}, {"b": 1}, ["x.b is not documented"]),
        ({"<b>": ["text"]}, {"b": ["", 2]}, ["x.<b>[] is 2, not text"]),
        ({"a or null": {"b": "text"}}, {"a": None}, []),
        ([{}], {}, ["x is {}, not a list"]),
    ],
)
def test_comparing_finds_differences(shape: Any, value: Any, expected: list[str]) -> None:
    """Wrong types, keys that are missing, undocumented keys."""
    assert list(compare(shape, value, "x", set())) == expected


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "book.toml").write_text(BOOK)
    (tmp_path / "bad.toml").write_text(BAD_BOOK)
    with System(valkey_url, sandbox, tmp_path, BIRDFEED_PRICE_BOOK=str(tmp_path / "book.toml")) as system:
        system.redis.flushall()
        yield system


def outputs(system: System) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """The output of each command on the page, with data that leaves no part of it empty."""
    line = json.dumps({"event_type": "text_generation", "event_data": {"model": "mine", "usage": USAGE}})
    system.send([("text_generation", text(request_id="z", model=4.1)), ("speech", {"model": "m"})])
    spool = dict(system.environment, BIRDFEED_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    subprocess.run([sys.executable, "-c", TRACK], env=spool, check=True, capture_output=True)
    system.redis.hincrby(system.keys.ledger, "dropped:text_generation:closed", 1)
    system.redis.hincrby(system.keys.ledger, "accepted:text_generation", 1)
    # A sample that is old enough for rates, whenever the workers take theirs.
    system.redis.xadd(system.keys.birdfeed("samples"), {"accepted": 0}, id=f"{int(time.time() * 1000) - 20_000}-0")
    system.start_pool(1)
    system.send(
        [
            *(("text_generation", {"model": model, "usage": USAGE}) for model in ("mine", "unknown-model")),
            ("text_generation", {"model": "asked", "model_used": "unknown-model", "provider": "maker", "usage": USAGE}),
            ("text_generation", {"model": "mine", "usage": {**USAGE, "prompt_tokens_details": {"audio_tokens": 3}}}),
            ("text_generation", {"model": "mine", "usage": {**USAGE, "video_frames": 3}}),
            ("image_generation", {"model": "flux"}),
        ]
    )
    system.drained()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BIRDFEED_REDIS_URL", "BIRDFEED_SPOOL_DIR"):
            patch.setenv(name, system.environment[name])
        # As if the producers of this Redis had kept it; not earlier, because `birdfeed send` would drain it.
        (file,) = (system.folder / "spool").glob("*.sqlite3")
        file.rename(Spool.of(ProducerSettings().options()).path)
    system.redis.hset(system.keys.birdfeed("breaker"), "image_generation", TRIPPED)
    system.run("resume", "text_generation", "--breaker-off", "1h")
    beat: dict[Any, Any] = {"host": "web-1", "pid": 7, "spooled_events": 2, "dropped": '{"closed": 1}'}
    system.redis.hset(system.keys.producer("p"), mapping=beat)
    system.redis.zadd(system.keys.producers, {"p": time.time()})
    yield "status --json", system.run("status", "--json")
    system.redis.hincrby(system.keys.ledger, "dead:text_generation:gave_up", 2)
    system.redis.hincrby(system.keys.ledger, "accepted:text_generation", 2)
    yield "ledger --json", system.run("ledger", "--json")
    yield "ledger --write-off --yes --json", system.run("ledger", "--write-off", "--yes", "--json")
    for command in ("metrics --json", "settings --json", "dead list --json", "dead list --letters --json"):
        yield command, system.run(*command.split())
    letter = next(one for one in system.dead() if one.reason == "invalid")
    yield "dead show ID --json", system.run("dead", "show", letter.id, "--json")
    yield "dead replay --json", system.run("dead", "replay", "--all", "--dry-run", "--json")
    yield "dead replay --json", system.run("dead", "replay", "--all", "--canary-wait", "20s", "--json")
    exported = system.run("dead", "export").stdout
    yield "dead import FILE --json", system.run("dead", "import", "-", "--dry-run", "--json", text=exported)
    (system.folder / "spool" / "spool-v1-0.sqlite3.damaged-1").touch()
    yield "forget USER --json", system.run("forget", "nobody", "--dry-run", "--json")
    (system.folder / "spool" / "spool-v1-0.sqlite3.damaged-1").unlink()
    yield "dead purge --yes --json", system.run("dead", "purge", "--all", "--yes", "--json")
    yield "dead log --json", system.run("dead", "log", "--json")
    system.redis.hset(
        system.keys.birdfeed("destination:llm_events"),
        mapping={"backoff_until": "9999999999", "reason": "HTTP 403", "state": "paused"},
    )
    system.redis.hset(system.keys.birdfeed("breaker"), "image_generation", TRIPPED)
    yield "resume --json", system.run("resume", "--json")
    yield "spool list --json", system.run("spool", "list", "--json")
    yield "spool drain --json", system.run("spool", "drain", "--json")
    yield "send FILE --json", system.run("send", "-", "--json", text=line + "\n{\n")
    yield "report --json", system.run("report", "--json")
    yield "prices estimate --json", system.run("prices", "estimate", "--json", text=line)
    yield "prices explain --json", system.run("prices", "explain", "--json", text=line)
    event_id = system.sandbox.sql("SELECT event_id FROM llm_events WHERE model = 'mine'")[0]["event_id"]
    yield "prices explain --event ID --json", system.run("prices", "explain", "--event", event_id, "--json")
    yield "prices missing --json", system.run("prices", "missing", "--json")
    bill = f"day,model,cost,tokens,requests\n{datetime.now(UTC).date()},mine,1,9,3\n"
    yield "prices compare-invoice FILE --json", system.run("prices", "compare-invoice", "-", "--json", text=bill)
    yield (
        "prices compare-invoice FILE --json",
        system.run("prices", "compare-invoice", "-", "--provider", "none-of-these", "--json", text=bill),
    )
    yield "prices show MODEL --json", system.run("prices", "show", "gpt-4.1", "--json")
    yield "prices show MODEL --json", system.run("prices", "show", "flux", "--json")
    yield "prices check FILE --json", system.run("prices", "check", "bad.toml", "--json")
    yield "prices check FILE --json", system.run("prices", "check", "book.toml", "--json")
    yield "prices diff OLD NEW --json", system.run("prices", "diff", "shipped", "book.toml", "--json")
    (system.folder / "book.toml").write_text(BOOK.replace("prompt_text = 3", "prompt_text = 5"))
    yield "prices reprice --json", system.run("prices", "reprice", "--since", "1d", "--yes", "--json")
    system.sandbox.replace_datasource(
        "llm_events", "SCHEMA >\n    `cost` Float32 `json:$.cost`\n\nENGINE MergeTree\nENGINE_SORTING_KEY cost\n"
    )
    yield "prices reprice --json", system.run("prices", "reprice", "--since", "1d", "--yes", "--json")
    yield "tinybird check --json", system.run("tinybird", "check", "--json")
    yield "doctor --json", system.run("doctor", "--json")


#: Paths that no run above fills, because each needs a special failure.
NOT_FILLED = {"spool list --json.damaged[]", "prices reprice --json.refused.<reason>"}


def test_the_page_is_what_the_commands_print(system: System) -> None:
    """Every command of the page is run; its output has exactly the documented keys."""
    shapes, seen, wrong = documented(), set[str](), list[str]()
    ran = set()
    for heading, done in outputs(system):
        ran.add(heading)
        lines = done.stdout.splitlines() if "\n{" in done.stdout else [done.stdout]
        documents = lines if len(lines) > 1 and all(line.startswith("{") for line in lines) else [done.stdout]
        for document in documents:
            try:
                value = json.loads(document)
            except json.JSONDecodeError:
                wrong.append(f"{heading} printed {done.stdout!r} {done.stderr!r}")
                continue
            wrong += compare(shapes[heading], value, heading, seen)

    assert wrong == []
    assert ran == shapes.keys()
    every = {path for heading, shape in shapes.items() for path in paths(shape, heading)}
    assert every - seen - NOT_FILLED == set()
