"""The minimum CPU time in µs that a Python process needs for an event: the floor to which bench.deliver is compared.

    python -m bench.floor

zlib, typed decode, token classes, exact price, receipt, row, JSON, zstd: no queue, no store, no code of the project.
"""

import gc
import statistics
import time
import zlib
from datetime import UTC, datetime

import msgspec
import zstandard
from msgspec import Struct

EVENTS, BATCHES, ROUNDS = 500, 20, 15
RATES = (100, 25, 400, 400)
RATES_TEXT = '{"prompt_text":"0.1","prompt_cached":"0.025","completion_text":"0.4","completion_reasoning":"0.4"}'


class Details(Struct, gc=False):
    cached_tokens: int = 0
    audio_tokens: int = 0
    reasoning_tokens: int = 0


class Usage(Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None


class Data(Struct, gc=False, forbid_unknown_fields=True):
    model: str
    start_time: datetime
    end_time: datetime
    usage: Usage
    model_used: str = ""
    provider: str = ""
    user: str = ""
    username: str = ""
    tier: str = ""
    duration: float = 0.0
    status: str = "success"
    request_id: str = ""
    environment: str = ""
    referrer: str = ""
    stream: bool = False
    response_id: str = ""


class Line(Struct, gc=False):
    event_id: str
    occurred_at: datetime
    data: Data


class Row(Struct, omit_defaults=True, gc=False):
    event_id: str
    occurred_at: datetime
    start_time: datetime
    end_time: datetime
    model: str
    model_used: str
    duration: float
    cost: float
    cost_exact: str
    rates: str
    tokens: dict[str, int]
    usage: dict[str, int]
    provider: str = ""
    user: str = ""
    username: str = ""
    tier: str = ""
    status: str = "success"
    request_id: str = ""
    environment: str = ""
    referrer: str = ""
    stream: bool = False
    response_id: str = ""
    call_type: str = "completion"
    price_model: str = ""
    price_book: str = ""
    enriched_at: datetime | None = None


encoder = msgspec.json.Encoder()
decoder = msgspec.json.Decoder(list[Line])
compressor = zstandard.ZstdCompressor(level=1)


def line(number: int) -> bytes:
    """An event of the same size and shape as delivery_parts'."""
    return encoder.encode(
        {
            "event_id": f"01a21593-6243-71ba-81bd-{number:012x}",
            "occurred_at": "2026-11-23T12:00:02.000000Z",
            "data": {
                "model": "openai",
                "model_used": "gpt-4.1-nano-2025-04-14",
                "provider": "azure-openai",
                "user": f"user-{number % 500}",
                "username": f"name-{number % 500}",
                "tier": "seed",
                "start_time": "2026-11-23T12:00:00.123Z",
                "end_time": "2026-11-23T12:00:01.623Z",
                "duration": 1500.0,
                "status": "success",
                "request_id": f"req-{number}",
                "environment": "production",
                "referrer": "example.com",
                "stream": True,
                "response_id": f"chatcmpl-{number}",
                "usage": {
                    "prompt_tokens": 1000 + number % 100,
                    "completion_tokens": 500,
                    "total_tokens": 1500 + number % 100,
                    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
                },
            },
        }
    )


def row(event: Line, now: datetime) -> bytes:
    """The row of one event, priced."""
    data, usage = event.data, event.data.usage
    inputs, outputs = usage.prompt_tokens_details, usage.completion_tokens_details
    assert inputs is not None
    assert outputs is not None
    cached, reasoning = inputs.cached_tokens, outputs.reasoning_tokens
    prompt, text = usage.prompt_tokens - cached, usage.completion_tokens - reasoning
    units = prompt * RATES[0] + cached * RATES[1] + text * RATES[2] + reasoning * RATES[3]  # 1e-9 USD
    return encoder.encode(
        Row(
            event.event_id, event.occurred_at, data.start_time, data.end_time, data.model[:512], data.model_used[:512],
            data.duration, units / 1e9, f"{units // 10**9}.{units % 10**9:09d}", RATES_TEXT,
            {"prompt_text": prompt, "prompt_cached": cached, "completion_text": text,
             "completion_reasoning": reasoning},
            {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
             "total_tokens": usage.total_tokens},
            data.provider[:512], data.user[:512], data.username[:512], data.tier[:512], data.status,
            data.request_id[:512], data.environment[:512], data.referrer[:512], data.stream, data.response_id[:512],
            "completion", "openai", "abcdef012345", now,
        )
    )  # fmt: skip


def work(batches: list[bytes]) -> None:
    """Process all batches, from the queue's bytes to the request's."""
    now = datetime.now(UTC)
    for batch in batches:
        lines = decoder.decode(b"[" + zlib.decompress(batch).replace(b"\n", b",") + b"]")
        compressor.compress(b"\n".join([row(one, now) for one in lines]))


def main() -> None:
    """Print the µs of CPU per event, as the median of the rounds."""
    numbers = (range(batch * EVENTS, (batch + 1) * EVENTS) for batch in range(BATCHES))
    batches = [zlib.compress(b"\n".join(map(line, part)), 1) for part in numbers]
    work(batches)
    gc.freeze()
    took = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work(batches)
        took.append((time.process_time() - before) / (EVENTS * BATCHES) * 1e6)
    print(f"{statistics.median(took):.2f}")


if __name__ == "__main__":
    main()
