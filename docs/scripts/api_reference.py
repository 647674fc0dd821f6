"""Generate docs/reference/api.md from the docstrings of the public modules: `python -m docs.scripts.api_reference`.

The sources are parsed, not imported, because importing an integration would require its framework.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).parents[2]
Node: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

INTRODUCTION: Final = """\
# Python API

<!-- made by `make docs`; a test fails if it is out of date -->

What a program imports. [Track events in a handler](../how-to/handler.md) and
[Track calls of an SDK](../how-to/sdks.md) show it in use; the fields of events are listed there, and the
settings in [Settings](settings.md). Everything else is internal: it may change in any release
([Versions and support](support.md)).
"""
#: Class whose members are fields that are listed elsewhere → where.
_LISTED: Final = {
    "TextGenerationFields": "[its fields](columns.md)",
    "ImageGenerationFields": "[its fields](columns.md)",
    "ContextFields": "[the fields that every event has](columns.md)",
    "SettingsFields": "[the settings](settings.md), without their prefix and in lower case",
}
#: Public modules besides `birdfeed` itself.
MODULES: Final = (
    *("birdfeed.testing", "birdfeed_worker.testing"),
    *(f"birdfeed.integrations.{name}" for name in ("openai", "anthropic", "google_genai", "litellm", "opentelemetry")),
    *(f"birdfeed.integrations.{name}" for name in ("asgi", "flask", "django", "celery", "rq", "functions")),
)
_SECTION: Final = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):$", re.MULTILINE)
_TITLES: Final = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises", "Attributes": "Attributes"}


def source_of(module: str) -> Path:
    """The file of a module."""
    path = ROOT.joinpath("worker" if module.startswith("birdfeed_worker") else "producer", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def face() -> dict[str, str]:
    """Each name that `birdfeed` exports → the module that defines it."""
    found: dict[str, str] = {}
    for node in ast.parse(source_of("birdfeed").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name.name: node.module for name in node.names}
    return {name: module for name, module in sorted(found.items()) if not name.startswith("_")}


def public(module: str) -> list[str]:
    """The public classes and functions that a module defines."""
    body = ast.parse(source_of(module).read_text()).body
    names = [one.name for one in body if isinstance(one, Node) and not one.name.startswith("_")]
    return list(dict.fromkeys(names))


def reference() -> str:
    """The page."""
    parts = [INTRODUCTION, "## birdfeed", ""]
    for name, module in face().items():
        parts += _entry(name, module)
    for module in MODULES:
        parts += [f"## {module}", "", *_described(_introduction(module))]
        for name in public(module):
            parts += _entry(name, module)
    return "\n".join(parts).rstrip() + "\n"


def _introduction(module: str) -> str:
    """A module's docstring, with its examples as code blocks."""
    return ast.get_docstring(ast.parse(source_of(module).read_text()), clean=False) or ""


def _entry(name: str, module: str) -> Iterator[str]:
    source = source_of(module).read_text()
    yield from (f"### {name}", "")
    found = [node for node in ast.parse(source).body if isinstance(node, Node) and node.name == name]
    if not found:
        yield from _described(_comment_above(name, source))
        return
    shown = [node for node in found if any(_unparsed(one) == "overload" for one in node.decorator_list)] or found
    yield from ("```text", *(line for node in shown for line in _signatures(node)), "```", "")
    node = found[-1]
    if name in _LISTED:
        yield from (f"{_plain(ast.get_docstring(node) or '')} It has {_LISTED[name]}.", "")
        return
    text = ast.get_docstring(node) or ""
    if "; see the module." in text:
        yield from _described(_introduction(module))
    yield from _described(text.replace("; see the module.", "."))
    if isinstance(node, ast.ClassDef) and not module.startswith("birdfeed.integrations"):
        yield from _members(node)


def _members(node: ast.ClassDef) -> Iterator[str]:
    """A list of a class's public methods and properties that have a docstring."""
    listed = False
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
            text = (ast.get_docstring(one) or "").split("\n\n")[0]
            is_property = any(_unparsed(decorator) == "property" for decorator in one.decorator_list)
            if text:
                listed = True
                yield f"- `.{one.name}{'' if is_property else '()'}`: {_plain(text)}"
    if listed:
        yield ""


def _signatures(node: Node) -> Iterator[str]:
    """The signatures, one for each overload."""
    if isinstance(node, ast.ClassDef):
        starts = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        forms = [one for one in starts if any(_unparsed(name) == "overload" for name in one.decorator_list)] or starts
        for form in forms:
            arguments = _unquoted(form.args).removeprefix("self").removeprefix(", ")
            # A class with internal types in its arguments is created only by birdfeed.
            yield f"class {node.name}" if re.search(r"\b_[A-Z]", arguments) else f"class {node.name}({arguments})"
        if not forms:
            yield f"class {node.name}"
        return
    returns = f" -> {_unquoted(node.returns)}" if node.returns is not None else ""
    yield f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}{node.name}({_unquoted(node.args)}){returns}"


def _unquoted(node: ast.AST) -> str:
    """A type or arguments as code, with quoted types unquoted."""
    return re.sub(r"'((?:list\[)?_?[A-Z]\w*[\w\[\] |]*)'", r"\1", _unparsed(node))


def _unparsed(node: ast.AST) -> str:
    return ast.unparse(node)


def _comment_above(name: str, source: str) -> str:
    """The `#:` lines above a name that is assigned."""
    found = re.search(rf"((?:^#: .*\n)+){name}\b", source, re.MULTILINE)
    return re.sub(r"^#: ?", "", found[1], flags=re.MULTILINE) if found else ""


def _described(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: its sections become lists."""
    first, *rest = _SECTION.split(docstring.replace("<", "&lt;") if "    " not in docstring else docstring)
    for block in first.strip().split("\n\n"):
        if block.startswith("    "):
            yield from ("```text", *(line[4:] for line in block.splitlines()), "```", "")
        elif block:
            yield from (_linked(block), "")
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        lines = body.strip("\n").splitlines()
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        entries: list[str] = []
        for line in (one[margin:] for one in lines):
            if line and (not line.startswith(" ")) and (title != "Returns" or not entries):
                entries.append(line)
            elif line.strip():
                entries[-1] += f" {line.strip()}"
        yield from (f"{_TITLES.get(title, title)}:", "")
        for entry in entries:
            named, colon, meaning = entry.partition(": ")
            is_named = bool(colon) and title != "Returns" and re.fullmatch(r"[\w, *]+", named)
            yield f"- `{named}`: {_linked(meaning)}" if is_named else f"- {_linked(entry)}"
        yield ""


def _plain(text: str) -> str:
    return _linked(" ".join(text.split()))


def _linked(text: str) -> str:
    """Turn the names of pages in a docstring into links."""
    return re.sub(
        r"(?<!`)docs/([\w/-]+)/([\w-]+)\.md",
        lambda found: f"[{found[2]}]({'../' + found[1] + '/' if found[1] != 'reference' else ''}{found[2]}.md)",
        text,
    )


if __name__ == "__main__":
    print(reference(), end="")
