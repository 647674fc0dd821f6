"""Pages of dead letters: kinds, one letter with an example, and the list with filters."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.servers.console import TOKEN, words
from tests.support.worker.dead import bury, events

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


def test_kinds_and_letters(console: Make, redis: Redis, keys: Keys) -> None:
    """Kinds sorted by events, letters newest first, with their trend."""
    now = datetime.now(UTC)
    bury(redis, keys, events(3), now=now - timedelta(minutes=90))
    letters = bury(redis, keys, events(2), "quarantined", "cost: not a number", now=now)

    said = words(console().get("/dead").text)

    assert "5 dead events in the ledger" in said
    assert said.index("3 invalid text_generation") < said.index("2 quarantined text_generation")
    assert "▲ more" in said
    assert said.index(letters[1].id[-12:]) < said.index(letters[0].id[-12:])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"reason": "invalid"}, 1), ({"event_type": "text_generation"}, 2), ({"since": "1h"}, 1), ({"until": "1h"}, 1),
        ({"user": "ann"}, 1), ({"model": "openai"}, 2), ({"text": "NOT A"}, 1), ({"text": "r1", "user": "ann"}, 1),
        ({"reason": "too_large"}, 0), ({"user": "nobody"}, 0),
    ],
)  # fmt: skip
def test_filters(console: Make, redis: Redis, keys: Keys, query: dict[str, str], found: int) -> None:
    """Each by itself and together; the form keeps what was typed."""
    now = datetime.now(UTC)
    bury(redis, keys, events(3, user="ann"), now=now - timedelta(hours=3))
    bury(redis, keys, events(2, user="bob"), "quarantined", "cost: not a number", now=now)

    page = console(TOKEN).get("/dead", params=query).text

    assert page.count('name="letter"') == found
    for value in query.values():
        assert f'value="{value}"' in page or f"<option selected>{value}</option>" in page


def test_an_invalid_filter(console: Make) -> None:
    """One sentence, the same as from the command."""
    client = console()

    wrong_time, wrong_reason = client.get("/dead?since=yesterday"), client.get("/dead?reason=invald")

    assert (wrong_time.status_code, wrong_reason.status_code) == (400, 400)
    assert "write 30m, 24h" in wrong_time.text
    assert "did you mean invalid?" in wrong_reason.text


def test_many_letters_are_read_a_page_at_a_time(
    console: Make, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links lead from page to page, through all of them."""
    monkeypatch.setattr("birdfeed_cli.console.dead.LETTERS", 2)
    letters = bury(redis, keys, events(5), each=True)
    client, seen, address = console(TOKEN), [], "/dead?reason=invalid"
    while address:
        page = client.get(address).text
        seen += [letter.id for letter in reversed(letters) if f'value="{letter.id}"' in page]
        _, found, rest = page.partition('<a href="/dead?reason=invalid&amp;after=')
        after = rest.partition('"')[0]
        address = f"/dead?reason=invalid&after={after}" if found else ""

    assert seen == [letter.id for letter in reversed(letters)]


def test_an_example_needs_a_sign_in(console: Make, redis: Redis, keys: Keys) -> None:
    """Every user of the machine reaches a console without a token: it shows no event's data, and can't be used to guess
    it.
    """
    [letter] = bury(redis, keys, events(3, user="ann-the-user"))
    paths = (f"/dead/kinds/{letter.fingerprint}", f"/dead/letters/{letter.id}")
    anybody, operator = console(), console(TOKEN)

    for path in paths:
        assert "model: Field required" in anybody.get(path).text
        assert "ann-the-user" not in anybody.get(path).text
        assert operator.get(path).text.count("ann-the-user") == 1
    assert [anybody.get("/dead", params={name: "x"}).status_code for name in ("user", "model", "text")] == [403] * 3
    assert "One event of 3" in operator.get(paths[0]).text


def test_what_does_not_exist(console: Make) -> None:
    """A page with 404 that names it."""
    client = console()

    assert "no dead letter has the fingerprint abc" in client.get("/dead/kinds/abc").text
    assert client.get("/dead/letters/abc").status_code == 404
    assert client.get("/nothing").status_code == 404


def test_a_letter_that_cannot_be_opened(console: Make, redis: Redis, keys: Keys) -> None:
    [letter] = bury(redis, keys, events(1))
    redis.hset(keys.job(letter.id), "data", "nonsense")

    assert "It can&#39;t be opened" in console(TOKEN).get(f"/dead/letters/{letter.id}").text.replace(
        "can't", "can&#39;t"
    )
