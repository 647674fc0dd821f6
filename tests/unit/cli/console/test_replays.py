"""Replays by forms: a dry run, all matching letters or selected ones, edits, and the entries in the log."""

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import entries
from birdfeed_worker.dead_letters.query import letters_of
from birdfeed_worker.flow.circuit_breaker import tripped
from redis import Redis

from tests.support.servers.console import TOKEN, form_key, words
from tests.support.wait import eventually
from tests.support.worker.dead import bury, events, work

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


def hidden(page: str) -> dict[str, Any]:
    """The hidden fields of the form on a page, as a browser sends them."""
    fields: dict[str, Any] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page):
        fields.setdefault(name, []).append(value)
    return fields


def ask(client: "TestClient", query: str, how: str, **fields: str) -> Any:
    """Fill in the form before a replay and send it; returns the replay's page when it has ended."""
    form = client.get(f"/replays/new?{query}").text.partition("<h1>")[2]
    begun: Any = client.post("/replays", data={**hidden(form), "how": how, **fields}, follow_redirects=False)
    if begun.status_code != 303:
        return begun
    return ended(client, begun.headers["location"])


def ended(client: "TestClient", path: str) -> Any:
    return eventually(
        lambda: page if "<progress" not in (page := client.get(path)).text else None, what="the replay ends"
    )


def actions(redis: Redis, keys: Keys) -> list[str]:
    return [entry.action for entry in entries(redis, keys)]


def test_a_dry_run_then_the_replay(console: Make, redis: Redis, keys: Keys) -> None:
    """The first changes nothing and leads to the second, which is in the log, with where it was started."""
    bury(redis, keys, events(3))
    bury(redis, keys, events(2), "quarantined")
    client = console(TOKEN)

    dry = words(ask(client, "of=filter&reason=quarantined", "dry").text)
    assert "2 events of 1 dead letter would go back" in dry
    assert (redis.zcard(keys.failed), actions(redis, keys)) == (2, [])
    done = words(ask(client, "of=filter&reason=quarantined", "replay").text)

    assert "2 events of 1 dead letter are back in the queue" in done
    assert [letter.reason for letter in letters_of(redis, keys)] == ["invalid"]
    assert len(work(redis, keys)) == 2
    assert actions(redis, keys) == ["replay ends", "replay begins"]
    begun = list(entries(redis, keys))[1].details
    assert (begun["choice"], begun["via"]) == ({"reason": "quarantined"}, "console")
    assert "via console" in client.get("/replays").text


def test_selected_letters(console: Make, redis: Redis, keys: Keys) -> None:
    """Only these letters go back."""
    letters = [letter.id for letter in bury(redis, keys, events(4), each=True)]

    done = ask(console(TOKEN), f"of=letters&letter={letters[1]}&letter={letters[2]}", "replay")

    assert "2 events of 2 dead letters" in words(done.text)
    assert [letter.id for letter in letters_of(redis, keys)] == [letters[0], letters[3]]


def test_everything_with_a_limit_and_an_edit(console: Make, redis: Redis, keys: Keys) -> None:
    """A field that is set is in the events that go back; the others stay."""
    bury(redis, keys, events(5), each=True)

    done = ask(console(TOKEN), "of=filter", "replay", limit="2", set="user=ann", unset="status usage")

    assert "2 events of 2 dead letters" in words(done.text)
    lines = [item.line for item in work(redis, keys)]
    assert len(lines) == 2
    assert all(b'"user":"ann"' in line and b"status" not in line and b"usage" not in line for line in lines)


@pytest.mark.parametrize(
    ("query", "fields", "sentence"),
    [
        ("of=filter", {"limit": "many"}, "limit: 'many' is not a number"),
        ("of=filter", {"rate": "nan"}, "rate must be from 0.1"),
        ("of=filter", {"limit": "0"}, "limit must be from 1"),
        ("of=filter", {"set": "nonsense"}, "is not name=value"),
        ("of=filter", {"set_type": "text_generatoin"}, "did you mean text_generation?"),
    ],
)
def test_an_invalid_form_changes_nothing(
    console: Make, redis: Redis, keys: Keys, query: str, fields: dict[str, str], sentence: str
) -> None:
    bury(redis, keys, events(1))

    answer = ask(console(TOKEN), query, "replay", **fields)

    assert answer.status_code == 400
    assert sentence in answer.text.replace("&#39;", "'")
    assert redis.zcard(keys.failed) == 1


def test_nothing_selected(console: Make) -> None:
    """A form without a selection is not a replay of everything."""
    assert "no dead letter is selected" in console(TOKEN).get("/replays/new?of=letters").text


def test_actions_need_the_token_and_the_pages_form(console: Make, redis: Redis, keys: Keys) -> None:
    """Without a token set, without a sign-in, and without the form's secret: nothing goes back, nothing is resumed."""
    bury(redis, keys, events(1))
    fields = {"of": "filter", "how": "replay"}

    read_only, stranger, forged = console(), console(TOKEN, sign_in=False), console(TOKEN)
    answers = [
        (name, client.post(path, data={**fields, "form_key": "guess"}, follow_redirects=False).status_code)
        for name, client in (("read-only", read_only), ("stranger", stranger), ("forged", forged))
        for path in ("/replays", "/replays/x/stop", "/resume")
    ]

    assert [code for name, code in answers if name != "stranger"] == [403] * 6
    assert [code for name, code in answers if name == "stranger"] == [303] * 3  # to the sign-in
    assert read_only.get("/replays/new?of=filter").status_code == 403
    assert (redis.zcard(keys.failed), actions(redis, keys)) == (1, [])


def test_one_at_a_time_and_stopped(console: Make, redis: Redis, keys: Keys) -> None:
    """A second replay is refused while one runs; a stopped one shows how to continue it."""
    bury(redis, keys, events(30), each=True)
    client = console(TOKEN)
    form = hidden(client.get("/replays/new?of=filter").text.partition("<h1>")[2])
    slow = {**form, "how": "replay", "rate": "0.1"}
    path = client.post("/replays", data=slow, follow_redirects=False).headers["location"]

    second = client.post("/replays", data=slow)
    running = client.get(path).text
    client.post(f"{path}/stop", data={"form_key": form_key(running)})
    done = words(ended(client, path).text)

    assert (second.status_code, "another replay is still running" in second.text) == (400, True)
    assert 'data-refresh="1"' in running
    assert "Stopped." in done
    assert f"birdfeed dead replay --resume {path.rpartition('/')[2]}" in done
    assert redis.zcard(keys.failed) > 0  # all of them would take five minutes


def test_a_console_that_stops_also_stops_its_replay(console: Make, redis: Redis, keys: Keys) -> None:
    """Between two steps; nothing continues in the background."""
    from birdfeed_cli.console.replays import Runs

    bury(redis, keys, events(20), each=True)
    runs = Runs(redis, keys)
    run = runs.start({"of": "filter", "how": "replay", "rate": "1"}, [])

    runs.close()

    assert not run.running
    assert run.result.stopped
    assert run.order.replay_id not in {thread.name for thread in threading.enumerate()}


def test_resume_by_a_button(console: Make, redis: Redis, keys: Keys) -> None:
    """The page has it if something is paused; the resume is in the log."""
    redis.hset(keys.birdfeed("breaker"), "text_generation", '{"reason":"invalid","dead":9,"seen":9,"since":1}')
    client = console(TOKEN)
    page = client.get("/").text
    assert "Resume text_generation" in page

    client.post("/resume", data={"form_key": form_key(page), "name": "text_generation"})

    assert tripped(redis, keys) == {}
    assert [(entry.action, entry.details["via"]) for entry in entries(redis, keys)] == [("resume", "console")]
    assert client.post("/resume", data={"form_key": form_key(page), "name": "nothing"}).status_code == 400
