"""Generate docs/how-to/whole-apps.md from examples/: `python -m docs.scripts.apps`."""

import ast
from pathlib import Path
from typing import Final

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
#: Title of a section → its file. tests/e2e/producer/test_examples.py runs each.
APPS: Final = {
    "FastAPI with OpenAI": "text_service.py",
    "FastAPI with a decorator": "image_service.py",
    "Flask with Anthropic": "flask_service.py",
    "Django with Google Gen AI": "django_service.py",
    "Celery with LiteLLM": "celery_tasks.py",
    "rq with OpenAI": "rq_jobs.py",
    "AWS Lambda with OpenAI": "lambda_function.py",
}
_INTRODUCTION: Final = """\
# Whole apps

<!-- made by `make docs` from examples/; a test fails if it is out of date -->

A small service for each framework, with the SDK of a provider: everything that birdfeed needs is in it. They are the
files of the repository's `examples/`, and a test runs each as a process of its own, with the real SDK, and compares the
tokens in its rows with what the provider counted. [Track events in a handler](handler.md) and
[Track calls of an SDK](sdks.md) say what else there is.

To try one without a provider's key, start the provider that is among them, which counts words as tokens:

<!-- not run in tests: the servers go on; tests/e2e/producer/test_examples.py starts the same -->

    cd examples
    uvicorn provider:app --port 9000 &
    export OPENAI_BASE_URL=http://127.0.0.1:9000/v1 OPENAI_API_KEY=any
    export ANTHROPIC_BASE_URL=http://127.0.0.1:9000 ANTHROPIC_API_KEY=any
    export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:9000 GEMINI_API_KEY=any
    BIRDFEED_REDIS_URL=redis://127.0.0.1:6379/0 uvicorn text_service:app  # with the URL that `birdfeed up` prints
"""


def page() -> str:
    """docs/how-to/whole-apps.md."""
    parts = [_INTRODUCTION]
    for title, name in APPS.items():
        code = (EXAMPLES / name).read_text()
        said = ast.get_docstring(ast.parse(code)) or ""
        rest = code.split('"""', 2)[2].strip()
        parts.append(f"## {title}\n\n`{name}`. {_as_markdown(said)}\n\n```python\n{rest}\n```\n")
    return "\n".join(parts)


def _as_markdown(said: str) -> str:
    """A docstring whose second paragraph may be a command."""
    first, *others = said.split("\n\n")
    return "\n\n".join([first, *(f"Run it by `{one}`." if _is_command(one) else one for one in others)])


def _is_command(paragraph: str) -> bool:
    return paragraph.startswith(("uvicorn ", "gunicorn ", "celery ", "rq "))


if __name__ == "__main__":
    print(page(), end="")
