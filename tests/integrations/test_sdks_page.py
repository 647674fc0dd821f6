"""The examples of docs/how-to/sdks.md, run unchanged; each provider is in the test's process."""

import re
import warnings
from typing import Any

import httpx
import httpx2
import pytest
from birdfeed.testing import capture

from tests.support.producer.answers import ANTHROPIC_MESSAGE, GEMINI, OPENAI_CHAT, SECRET, Provider
from tests.support.repository import DOCS
from tests.support.wait import eventually

PAGE = (DOCS / "how-to" / "sdks.md").read_text()

# LiteLLM's own: pydantic's warnings of its types.
pytestmark = pytest.mark.filterwarnings("ignore")


def example(title: str) -> str:
    """The first block of Python under a title."""
    found = re.search(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("title", "answer", "model_used"),
    [
        ("OpenAI", OPENAI_CHAT, "gpt-4o-mini-2024-07-18"),
        ("Anthropic", ANTHROPIC_MESSAGE, "claude-test-20261101"),
        ("Google Gen AI", GEMINI, "gemini-2.5-flash-001"),
        ("LiteLLM", OPENAI_CHAT, "gpt-4o-mini-2024-07-18"),
        ("OpenTelemetry", {}, None),
    ],
)
def test_the_examples(monkeypatch: pytest.MonkeyPatch, title: str, answer: Any, model_used: str | None) -> None:
    """One event each, which the worker accepts."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "k")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for library in (httpx, httpx2):
        provider = Provider(library.Response)
        provider.answer = answer
        monkeypatch.setattr(library.HTTPTransport, "handle_request", lambda self, request, ask=provider: ask(request))
    # LiteLLM's list of callbacks is restored.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm
    monkeypatch.setattr(litellm, "callbacks", [])

    with capture() as events:
        exec(compile(example(title), "sdks.md", "exec"), {})
        eventually(lambda: len(events), what="an event")

    events.only.validated()
    assert events.only.data.get("model_used") == model_used
    assert events.only.data["usage"]
    assert SECRET not in repr(events)
