"""Tinybird's SQL templates: `{{Int32(limit, 10)}}`, `{% if defined(user) %} ... {% end %}`.

Tinybird's language is Tornado's with its own functions; so is this. Every value that `{{ }}` prints is converted to
SQL: text becomes a quoted string, so that no parameter can break out of it. Only the results of `symbol`, `column`,
`columns` and `table` are printed unquoted, and those accept only names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from tornado.log import app_log
from tornado.template import ParseError, Template

from birdfeed_sandbox.errors import DatafileError, TemplateError
from birdfeed_sandbox.store.template_functions import BUILTINS, FUNCTIONS, MissingParameterError, print_sql

_EXPRESSION = re.compile(r"\{\{(?!!)(.*?)\}\}", re.DOTALL)
_FORBIDDEN = re.compile(r"\{%\s*(import|from|include|extends|module|autoescape|raw|apply)\b")
#: Tornado puts the template's line number at the end of each generated line.
_ORIGIN = re.compile(r"\s*# <string>:(\d+)\s*$")
_KNOWN = frozenset({*FUNCTIONS, *BUILTINS, "_print_sql"})


class SqlTemplate:
    """One node's SQL, to be rendered with an endpoint's parameters; `parameters` are their names."""

    def __init__(self, text: str, *, path: str, line: int) -> None:
        """Compile the SQL after a `%`, which begins on that line of the file; raises DatafileError."""
        forbidden = _FORBIDDEN.search(text)
        if forbidden is not None:
            raise DatafileError(path, line + text.count("\n", 0, forbidden.start()), f"{forbidden[1]} is forbidden")
        app_log.disabled = True  # it would print the generated code of an invalid template
        try:
            self._template = Template(_EXPRESSION.sub(r"{{ _print_sql(\1) }}", text), autoescape=None)
        except ParseError as error:
            message = str(error).rsplit(" at ", 1)[0]
            raise DatafileError(path, line + max(error.lineno, 1) - 1, f"Template Syntax Error: {message}") from error
        except SyntaxError as error:
            at, code = _origin(error.text or "", line)
            raise DatafileError(path, at, f"Template Syntax Error: {error.msg}: {code}") from error
        finally:
            app_log.disabled = False
        self._undefaulted: set[str] = set()
        self.parameters = self._free_names(path, line)

    def _free_names(self, path: str, line: int) -> frozenset[str]:
        tree = ast.parse(self._template.code)
        lines = self._template.code.splitlines()
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in stored and not node.id.startswith("_tt_"):
                names.add(node.id)
                if node.id in FUNCTIONS and id(node) not in called:
                    at, _ = _origin(lines[node.lineno - 1], line)
                    message = f"Template Syntax Error: '{node.id}' is a function: no parameter can be called so"
                    raise DatafileError(path, at, message)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name not in _KNOWN and not name.startswith("_tt_"):
                    at, _ = _origin(lines[node.lineno - 1], line)
                    raise DatafileError(path, at, f"Template Syntax Error: '{name}' is not a valid function")
                defaulted = len(node.args) > 1 + (name == "Array") or any(k.arg == "default" for k in node.keywords)
                if name[0].isupper() and node.args and isinstance(node.args[0], ast.Name) and not defaulted:
                    self._undefaulted.add(node.args[0].id)
        return frozenset(names - _KNOWN)

    def render(self, parameters: Mapping[str, str]) -> str:
        """The SQL for these parameters; missing ones are None in the template.

        Raises:
            TemplateError: A required parameter is missing, or a parameter has the wrong type.
        """
        values = {name: parameters.get(name) for name in self.parameters}
        try:
            sql = self._template.generate(**values, **FUNCTIONS, _print_sql=print_sql, __builtins__=BUILTINS)
        except MissingParameterError as error:
            missing = sorted(name for name in self._undefaulted if values.get(name) is None)
            advice = "Please provide a value or set a default value in the pipe code."
            raise TemplateError(f"{error.message} Check the parameters {', '.join(missing)}. {advice}") from error
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, NameError) as error:
            raise TemplateError(f"Template Syntax Error: {error}") from error
        return sql.decode()


def _origin(code: str, first_line: int) -> tuple[int, str]:
    """The line of the file that a line of generated code comes from, and that code for display."""
    found = _ORIGIN.search(code)
    line = first_line + int(found[1]) - 1 if found is not None else first_line
    text = _ORIGIN.sub("", code).strip().removeprefix("_tt_tmp = _print_sql(").removesuffix(")")
    return line, text.strip()
