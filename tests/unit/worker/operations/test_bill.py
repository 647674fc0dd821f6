"""Bills as OpenAI and Anthropic export them, and plain ones: what is read, and what is refused with one sentence."""

import json
import re
from datetime import date
from decimal import Decimal

import pytest
from birdfeed_worker.operations.invoice.bill import BillError
from birdfeed_worker.operations.invoice.formats import read_bill

DAY = date(2026, 11, 20)
SECONDS = 1_795_132_800
OPENAI_COSTS = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": SECONDS,
            "end_time": SECONDS + 86_400,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": value, "currency": "usd"},
                    "line_item": item,
                    "project_id": None,
                    "quantity": None,
                }
                for item, value in (
                    ("gpt-4o-2024-08-06, input", 1.5),
                    ("gpt-4o-2024-08-06, cached input", 0.25),
                    (None, 2),
                )
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
OPENAI_USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": SECONDS,
            "end_time": SECONDS + 3_600,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "model": "gpt-4o-2024-08-06",
                    "batch": None,
                },
                {"object": "organization.usage.vector_stores.result", "usage_bytes": 5, "project_id": None},
            ],
        }
    ],
}
ANTHROPIC_COSTS = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "ending_at": "2026-11-21T00:00:00Z",
            "results": [
                {"amount": "123.45", "currency": "USD", "model": "claude-opus-4-6", "cost_type": "tokens"},
                {"amount": "1", "currency": "USD", "model": None, "cost_type": "web_search", "description": None},
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
ANTHROPIC_USAGE = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 10},
                    "model": "claude-opus-4-6",
                    "service_tier": "standard",
                }
            ],
        }
    ]
}
OPENAI_COST_CSV = """\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,user_id
1795046400,1795132800,2026-11-19T00:00:00+00:00,2026-11-20T00:00:00+00:00,,,,,,
1795132800,1795219200,2026-11-20T00:00:00,2026-11-21T00:00:00,0.00383598000000000000000000,usd,,,"gpt-5-nano, input",
1795132800,1795219200,2026-11-20T00:00:00,2026-11-21T00:00:00,0.5,usd,1000,tokens,"gpt-5-nano, output",
"""
OPENAI_USAGE_CSV = """\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens,batch
1795132800,1795132860,2026-11-20T00:00:00+00:00,2026-11-20T00:01:00+00:00,p,3.0,gpt-4o,4212,1673,
1795132860,1795132920,2026-11-20T00:01:00+00:00,2026-11-20T00:02:00+00:00,p,1.0,gpt-4o,8,7,
1795132920,1795132980,2026-11-20T00:02:00+00:00,2026-11-20T00:03:00+00:00,,,,,,
"""
ANTHROPIC_COST_CSV = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,speed
2026-11-20,Claude Haiku 4.5,Default,key,message,≤ 200k,input_no_cache,0.05,0.05,token,
2026-11-20,Claude Haiku 4.5,Default,key,message,≤ 200k,output,0.02,0.03,token,
"""
ANTHROPIC_USAGE_CSV = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,\
usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,\
web_search_count,inference_geo,speed
2026-11-20,claude-opus-5,key,Default,standard,≤ 200k,46981,15969,2,3,16932,0,global,
"""
READ: dict[str, tuple[str, str, list[tuple[str, str | None, int | None, int | None]]]] = {
    "OpenAI's costs": (
        json.dumps(OPENAI_COSTS),
        "openai",
        [("", "2", None, None), ("gpt-4o-2024-08-06", "1.75", None, None)],
    ),
    "OpenAI's usage": (json.dumps(OPENAI_USAGE), "openai", [("gpt-4o-2024-08-06", None, 1500, 5)]),
    "Anthropic's costs, in cents": (
        json.dumps(ANTHROPIC_COSTS),
        "anthropic",
        [("claude-opus-4-6", "1.2345", None, None), ("web_search", "0.01", None, None)],
    ),
    "Anthropic's usage": (json.dumps(ANTHROPIC_USAGE), "anthropic", [("claude-opus-4-6", None, 3700, None)]),
    "pages, one a line": (
        json.dumps(OPENAI_USAGE) + "\n" + json.dumps(OPENAI_USAGE),
        "openai",
        [("gpt-4o-2024-08-06", None, 3000, 10)],
    ),
    "pages in a list": (json.dumps([ANTHROPIC_USAGE] * 2), "anthropic", [("claude-opus-4-6", None, 7400, None)]),
    "OpenAI's cost export": (OPENAI_COST_CSV, "openai", [("gpt-5-nano", "0.50383598", None, None)]),
    "OpenAI's usage export": (OPENAI_USAGE_CSV, "openai", [("gpt-4o", None, 5900, 4)]),
    "OpenAI's export before 2025": (
        "currency,name,cost,user_id,cost_in_major,date,timestamp\nusd,GPT-4o,123.4,u,1.234,2026-11-20,1795132800\n",
        "openai",
        [("GPT-4o", "1.234", None, None)],
    ),
    "Anthropic's cost export": (ANTHROPIC_COST_CSV, "anthropic", [("Claude Haiku 4.5", "0.07", None, None)]),
    "Anthropic's usage export": (ANTHROPIC_USAGE_CSV, "anthropic", [("claude-opus-5", None, 79887, None)]),
    "a plain one": ("day,model,cost\n2026-11-20,m,$1.5\n2026-11-20,m,-0.5\n", "", [("m", "1", None, None)]),
    "a plain one with a BOM and semicolons": (
        '\ufeffDate;Model;Cost (USD)\r\n2026/11/20;m;"1,000.25"\r\n',
        "",
        [("m", "1000.25", None, None)],
    ),
    "a plain one of tokens": (
        "date\tmodel\tprompt_tokens\tcompletion_tokens\trequests\n2026-11-20\tm\t10\t5\t2\n",
        "",
        [("m", None, 15, 2)],
    ),
    "a plain one of tokens together": ("day,model,tokens\n2026-11-20T23:59:59Z,m,15\n", "", [("m", None, 15, None)]),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str) -> None:
    """Day, model, cost, tokens and requests, summed by day and model; and the provider."""
    text, provider, expected = READ[name]

    bill = read_bill(text.encode())

    assert {line.day for line in bill.lines} == {DAY}
    assert bill.provider == provider
    found = [(line.model, line.cost, line.all_tokens, line.requests) for line in bill.lines]
    assert found == [(model, None if cost is None else Decimal(cost), *counts) for model, cost, *counts in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the CSV's first line needs a day"),
        ("model,cost\nm,1\n", "the CSV's first line needs a day"),
        ("day,model\n2026-11-20,m\n", "cost, tokens or requests"),
        ("day,model,cost\n", "no line with a day and a cost"),
        ("day,model,cost\nsoon,m,1\n", "line 2: 'soon' is not a day"),
        ("day,model,cost\n2026-13-20,m,1\n", "line 2: '2026-13-20' is not a day"),
        ("day,model,cost\n9999-12-31,m,1\n", "line 2: '9999-12-31' is not a day"),
        ("day,model,cost\n2026-11-20,m,NaN\n", "line 2: cost: 'NaN' is not an amount of money"),
        ("day,model,cost\n2026-11-20,m,1e99\n", "line 2: cost: '1e99' is not an amount of money"),
        ("day,model,tokens\n2026-11-20,m,1.5\n", "line 2: tokens: '1.5' is not a count"),
        ("day,model,tokens\n2026-11-20,m,-1\n", "line 2: tokens: '-1' is not a count"),
        ("day,model,cost,currency\n2026-11-20,m,1,eur\n", "the bill is in 'eur': only US dollars"),
        ("{", "the file is not JSON"),
        ("[" * 100_000, "the file is not JSON"),
        ('{"event_type": "text_generation"}', "from OpenAI or Anthropic"),
        ('{"data": [5]}', "from OpenAI or Anthropic"),
        ('{"data": [{"start_time": true, "results": []}]}', "a bucket: True is not a day"),
        ('{"data": [{"start_time": 1795132800, "results": [3]}]}', "results are not objects"),
        ('{"data": [{"start_time": 1795132800, "results": [{"amount": {"value": {}}}]}]}', "is not an amount of money"),
        (
            '{"data": [{"start_time": 1795132800, "results": [{"amount": {"value": NaN}}]}]}',
            "is not an amount of money",
        ),
        ('{"data": [{"start_time": 1795132800, "results": [{"amount": "1", "currency": "EUR"}]}]}', "only US dollars"),
        ('{"data": [{"start_time": 1795132800, "results": [{"usage_bytes": 4}]}]}', "no line with a day and a cost"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    """One sentence, with the line if there is one."""
    with pytest.raises(BillError, match=re.escape(expected)):
        read_bill(text.encode())


def test_what_is_not_text_is_refused() -> None:
    """Such as a spreadsheet's own format."""
    with pytest.raises(BillError, match="not UTF-8 text"):
        read_bill(b"PK\x03\x04\xff")


def test_empty_lines_are_counted() -> None:
    """An export has a row for each minute, whether anything happened or not."""
    assert read_bill(OPENAI_USAGE_CSV.encode()).passed_over == 1
