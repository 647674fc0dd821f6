"""Runs in the environment of one of Tinybird's SDKs: uses it with a server as its users do, and prints the results.

Arguments: which SDK, the server's URL, a token that may append, one that may read. On standard input: rows, as JSON.
"""

import json
import sys
from typing import Any


def tinybird_sdk(url: str, append: str, read: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from tinybird_sdk.api.api import TinybirdApiError, create_tinybird_api

    writer = create_tinybird_api({"base_url": url, "token": append})
    reader = create_tinybird_api({"base_url": url, "token": read})
    told: dict[str, Any] = {
        "ingest": writer.ingest("llm_events", rows[0]),
        "batch": writer.ingest_batch("llm_events", rows[1:]),
        "sql": reader.sql("SELECT count() AS n, uniqExact(event_id) AS ids FROM llm_events FORMAT JSON")["data"],
        "pipe": reader.query("birdfeed_cost", {"group_by": "model"})["data"],
    }
    for name, ask in (
        (
            "wrong token",
            lambda: create_tinybird_api({"base_url": url, "token": "p.wrong"}).ingest("llm_events", rows[0]),
        ),
        ("no such table", lambda: writer.ingest("no_such_table", rows[0])),
        ("bad sql", lambda: reader.sql("SELECT nothing FROM llm_events FORMAT JSON")),
        ("no such pipe", lambda: reader.query("no_such_pipe")),
    ):
        try:
            told[name] = ask()
        except TinybirdApiError as error:
            told[name] = error.status_code
    return told


def tinybird_python_sdk(url: str, append: str, read: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    import requests
    from tb.api import API  # type: ignore[import-not-found]
    from tb.datasource import Datasource  # type: ignore[import-not-found]

    with Datasource("llm_events", append, api_url=url) as datasource:
        for row in rows:
            datasource << row
    told: dict[str, Any] = {}
    reader = API(read, url)
    for name, path in (
        (
            "sql",
            "/sql?q=SELECT%20count()%20AS%20n,%20uniqExact(event_id)%20AS%20ids%20FROM%20llm_events%20FORMAT%20JSON",
        ),
        ("pipe", "/pipes/birdfeed_cost.json?group_by=model"),
        ("datasources", "/datasources"),
        ("pipes", "/pipes"),
    ):
        try:
            answered = reader.get(path).json()
            told[name] = answered.get("data", answered)
        except requests.HTTPError as error:
            told[name] = None if error.response is None else error.response.status_code
    return told


if __name__ == "__main__":
    which, url, append, read = sys.argv[1:]
    run = {"tinybird-sdk": tinybird_sdk, "tinybird-python-sdk": tinybird_python_sdk}[which]
    print(json.dumps(run(url, append, read, json.load(sys.stdin))))
