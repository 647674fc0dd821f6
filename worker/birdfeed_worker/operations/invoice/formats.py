"""Read a provider's bill from the files that its customers can download: cost, tokens, requests by day (UTC) and model.

The formats are recognised by their fields:

- OpenAI's costs API, JSON: buckets of {"amount": {"value", "currency"}, "line_item": "gpt-4o-2024-08-06, input"}
  (platform.openai.com/docs/api-reference/usage/costs; openai 2.54.0, types/admin/organization/usage_costs_response.py).
- OpenAI's usage API, JSON: buckets of {"model", "input_tokens" (cached included), "output_tokens",
  "num_model_requests"} (the same page; usage_completions_response.py and its neighbours).
- OpenAI's dashboard exports, CSV: costs as start_time_iso, amount_value, amount_currency, line_item; usage as
  start_time_iso, model, input_tokens, output_tokens, num_model_requests; before 2025 date, name, cost_in_major
  (help.openai.com/en/articles/8554956; headers as public importers and reports of 2024 to 2026 quote them).
- Anthropic's cost report, JSON: buckets of {"amount": "123.45" in cents, "currency", "model", "cost_type"}
  (platform.claude.com/docs/en/api/admin/cost_report), and its usage report: {"model", "uncached_input_tokens",
  "cache_creation", "cache_read_input_tokens", "output_tokens"} (.../admin/usage_report/retrieve_messages).
- Anthropic's console exports, CSV: costs as usage_date_utc, model, token_type, cost_usd; usage as usage_date_utc,
  model_version, usage_input_tokens_no_cache and so on (headers as public importers of 2025 and 2026 quote them).
- A plain CSV: a day, a model, and a cost in USD, or tokens, or requests; the names of columns are in COLUMNS.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from birdfeed_worker.operations.invoice.bill import (
    Bill,
    Billed,
    BillError,
    check_currency,
    count_of,
    day_of,
    model_of,
    money_of,
    text_of,
)
from birdfeed_worker.pricing.price.money import EXACT

#: The largest file that is read, in bytes: a month by minute, key and model takes about 30 MB.
MAX_BYTES: Final = 256 * 1024 * 1024
#: Content of a column → its names, in lower case; the first that exists is used.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "day": ("usage_date_utc", "start_time_iso", "start_time", "day", "date", "usage date (utc)", "timestamp"),
    "model": ("model_version", "model", "line_item", "name", "snapshot_id"),
    "cost": ("amount_value", "cost_in_major", "cost_usd", "cost", "usd", "cost (usd)", "amount"),
    "currency": ("amount_currency", "currency"),
    "tokens": ("tokens", "total_tokens"),
    "completion": ("usage_output_tokens", "output_tokens", "completion_tokens", "n_generated_tokens_total"),
    "requests": ("num_model_requests", "requests", "num_requests", "n_requests"),
}
#: The same for input tokens: these columns are added up.
PROMPT_COLUMNS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h",
        "usage_input_tokens_cache_write", "usage_input_tokens_cache_read",
    ),
    ("input_tokens",),
    ("prompt_tokens",),
    ("n_context_tokens_total",),
)  # fmt: skip
_AMOUNTS: Final = ("cost", "tokens", "completion", "requests")
#: Column that only one provider's exports have → the provider's family.
_PROVIDER_OF: Final = {
    "usage_date_utc": "anthropic",
    "amount_value": "openai",
    "num_model_requests": "openai",
    "start_time_iso": "openai",
    "cost_in_major": "openai",
}
_CENTS: Final = Decimal("0.01")


def read_bill(content: bytes) -> Bill:
    """A bill from the bytes of a file.

    Raises:
        BillError: It has none of the formats above, or something in it can't be read.
    """
    if len(content) > MAX_BYTES:
        raise BillError(f"the file is larger than {MAX_BYTES // 1024 // 1024} MB: export fewer days at a time")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BillError(f"the file is not UTF-8 text: byte {error.start}") from None
    if text.lstrip()[:1] in ("{", "["):
        found, provider = _of_json(text)
    else:
        found, provider = _of_csv(text)
    lines: dict[tuple[date, str], Billed] = {}
    passed_over = 0
    for line in found:
        if line is None:
            passed_over += 1
            continue
        key = line.day, line.model
        lines[key] = lines[key] + line if key in lines else line
    if not lines:
        raise BillError("the file has no line with a day and a cost, tokens or requests")
    ordered = sorted(lines.values(), key=lambda one: (one.day, one.model))
    return Bill(lines=tuple(ordered), provider=provider, passed_over=passed_over)


def _of_json(text: str) -> tuple[list[Billed | None], str]:
    documents: list[Any] = []
    try:
        documents.append(json.loads(text, parse_float=Decimal))
    except (ValueError, RecursionError):
        try:
            documents += [json.loads(line, parse_float=Decimal) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise BillError(f"the file is not JSON: {error}") from None
    found: list[Billed | None] = []
    providers: set[str] = set()
    for bucket in _buckets(documents):
        day = day_of(bucket.get("starting_at", bucket.get("start_time", bucket.get("start_time_iso"))), "a bucket")
        results = bucket.get("results", bucket.get("result"))
        for result in results if isinstance(results, list) else ():
            if not isinstance(result, Mapping):
                raise BillError("a bucket's results are not objects")
            line, provider = _of_result(day, result)
            found.append(line)
            providers.add(provider)
    return found, providers.pop() if len(providers) == 1 else ""


def _buckets(documents: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The buckets of one page, of several pages (in a list or one per line), or of a bare list."""
    for document in documents:
        if isinstance(document, list):
            yield from _buckets(document)
        elif isinstance(document, Mapping) and isinstance(document.get("data"), list):
            yield from _buckets(document["data"])
        elif isinstance(document, Mapping) and ("results" in document or "result" in document):
            yield document
        else:
            raise BillError(
                "the JSON is not an export of costs or usage from OpenAI or Anthropic: no buckets with results"
            )


def _of_result(day: date, result: Mapping[str, Any]) -> tuple[Billed | None, str]:
    """A result and its provider; None if it has nothing that can be compared."""
    amount = result.get("amount")
    if isinstance(amount, Mapping):
        check_currency(amount.get("currency"))
        cost = money_of(amount.get("value"), "amount.value")
        return Billed(day=day, model=model_of(result.get("line_item")), cost=cost), "openai"
    if amount is not None:
        check_currency(result.get("currency"))
        named = result.get("model") or result.get("description") or result.get("cost_type")
        cents = money_of(amount, "amount")
        cost = None if cents is None else EXACT.multiply(cents, _CENTS)
        return Billed(day=day, model=text_of(named), cost=cost), "anthropic"
    model = text_of(result.get("model"))
    if "uncached_input_tokens" in result:
        written = result.get("cache_creation")
        counts = [result.get("uncached_input_tokens"), result.get("cache_read_input_tokens")]
        counts += written.values() if isinstance(written, Mapping) else ()
        counts += [value for name, value in result.items() if re.fullmatch(r"cache_creation_\w*tokens", name)]
        prompt = sum(count_of(value, "input tokens") or 0 for value in counts)
        completion = count_of(result.get("output_tokens"), "output_tokens")
        return Billed(day=day, model=model, prompt=prompt, completion=completion), "anthropic"
    line = Billed(
        day=day,
        model=model,
        prompt=count_of(result.get("input_tokens"), "input_tokens"),
        completion=count_of(result.get("output_tokens"), "output_tokens"),
        requests=count_of(result.get("num_model_requests"), "num_model_requests"),
    )
    return (None if line == Billed(day=day, model=model) else line), "openai"


def _of_csv(text: str) -> tuple[list[Billed | None], str]:
    first = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip().lower() for name in next(rows, [])]
    places = {name: nth for nth, name in reversed(list(enumerate(header)))}
    column = {role: next((places[one] for one in names if one in places), None) for role, names in COLUMNS.items()}
    prompt = next(
        ([places[one] for one in names if one in places] for names in PROMPT_COLUMNS if names[0] in places), []
    )
    if column["day"] is None or not (prompt or any(column[one] is not None for one in _AMOUNTS)):
        raise BillError(
            "the CSV's first line needs a day, and cost, tokens or requests; a plain bill has day,model,cost"
        )
    provider = next((family for name, family in _PROVIDER_OF.items() if name in places), "")
    found: list[Billed | None] = []
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                found.append(_of_row(row, column, prompt, f"line {rows.line_num}"))
    except csv.Error as error:
        raise BillError(f"line {rows.line_num} is not CSV: {error}") from None
    return found, provider


def _of_row(row: Sequence[str], column: Mapping[str, int | None], prompt: Sequence[int], where: str) -> Billed | None:
    def cell(role: str) -> str | None:
        place = column[role]
        return row[place].strip() or None if place is not None and place < len(row) else None

    ins = [row[place].strip() for place in prompt if place < len(row) and row[place].strip()]
    if not ins and not any(cell(role) for role in _AMOUNTS):
        return None
    cost = money_of(cell("cost"), f"{where}: cost")
    if cost is not None:
        check_currency(cell("currency"))
    return Billed(
        day=day_of(cell("day"), where),
        model=model_of(cell("model")),
        cost=cost,
        prompt=sum(count_of(one, f"{where}: tokens in") or 0 for one in ins) if ins else None,
        completion=count_of(cell("completion"), f"{where}: tokens out"),
        tokens=count_of(cell("tokens"), f"{where}: tokens"),
        requests=count_of(cell("requests"), f"{where}: requests"),
    )
