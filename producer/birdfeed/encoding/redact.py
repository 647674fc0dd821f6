"""Remove what may be private from errors and referrers, and hash persons' names."""

import re
import traceback
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from birdfeed.encoding.sanitize import NOTHING, TEXT_TAKEN_OUT, Sanitizer

#: How much of an error's message is sent: all of it, all but what it may quote, or none.
ErrorMessage: TypeAlias = Literal["full", "redacted", "none"]

#: Characters of a message that are read, and that are kept.
_LOOKED_AT: Final = 4_000
_CHARACTERS: Final = {"full": 2_000, "redacted": 300}
#: Characters of a traceback.
_MAX_TRACEBACK: Final = 20_000
#: Hex digits kept of the HMAC: 128 bits, half of SHA-256, as RFC 2104 allows.
_HMAC_DIGITS: Final = 32
#: Replaces what was removed.
GAP: Final = "…"

#: What errors quote, in the order of removal. Every pattern runs in linear time.
_PRIVATE: Final = (
    # pydantic: input_value='...', input_type=str]
    (re.compile(r"(input_value\s*=\s*)(?:(?!, input_type=)[\s\S])*"), rf"\1{GAP}"),
    # What follows a label ("Your prompt: ...", "messages=[...]"), to the end of the line.
    (
        re.compile(
            r"(?i)\b((?:prompt|input|content|text|messages?|query|body|value|completion|answer|response|request|data|got|"
            r"received|user|params?|arguments?|args|kwargs)\w*[\"']?\s*[:=]\s*)[^\n]+"
        ),
        rf"\1{GAP}",
    ),
    # Quoted text, even if its end was cut off. An apostrophe inside a word is not a quote.
    (re.compile(r"\"(?:\\[\s\S]?|[^\"\\])*(?:\"|\Z)"), f'"{GAP}"'),
    (re.compile(r"(?<!\w)'(?:\\[\s\S]?|[^'\\]|'(?=\w))*(?:'|\Z)"), f"'{GAP}'"),
    (re.compile(r"`[^`]*(?:`|\Z)|“[^”]*(?:”|\Z)|«[^»]*(?:»|\Z)|「[^」]*(?:」|\Z)"), GAP),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/?#]{0,300}[^\s?#]{0,1000})[?#]\S*"), rf"\1?{GAP}"),
    (re.compile(r"[^\s@<>(),;:]{1,64}@[^\s@<>(),;]{1,255}"), GAP),
    (re.compile(r"\+?\d(?:[ .\-]?\d){6,}"), GAP),
    # Keys and tokens.
    (re.compile(r"[A-Za-z0-9_\-]{32,}|\b(?:sk|pk|ghp|xox[a-z])[-_]\S{6,}"), GAP),
)
#: An error's type and code are names, not prose.
_NAME: Final = re.compile(r"[\w.:\-/<>]{1,100}").fullmatch
_HOST: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.\-]{0,30}:)?//(?:[^/?#@\s]{0,255}@)?([A-Za-z0-9.\-]{1,253}(?::\d{1,5})?)(?:[/?#]|\Z)"
).match
_BARE_HOST: Final = re.compile(
    r"((?:[A-Za-z0-9\-]{1,63}\.)+[A-Za-z0-9\-]{1,63}(?::\d{1,5})?|localhost(?::\d{1,5})?)(?:[/?#]|\Z)"
).match


#: Attributes in which an SDK's exception keeps the server's answer.
_ANSWERS: Final = ("response", "body", "details")


class AnswerText(str):
    """Text that may be a server's answer. Providers repeat prompts in it, unquoted: "redacted" sends none of it."""

    __slots__ = ()


def host_of(referrer: str) -> str | None:
    """The host and port of a referrer, without path and query, which can hold prompts; None if it has no host."""
    found = _HOST(referrer) or _BARE_HOST(referrer)
    return found[1] if found is not None else None


def pseudonym(key: bytes, person: object) -> str:
    """A person's pseudonym: the same for the same key and name; without the key it can't be traced back."""
    import hmac  # it loads OpenSSL, which takes 10 ms: only for programs that have a key

    name = person if isinstance(person, str) else str(person)
    return hmac.digest(key, name.encode("utf-8", "replace"), "sha256").hex()[:_HMAC_DIGITS]


def redacted(message: str) -> str:
    """A message without quoted text, input values, URL queries, e-mail addresses, long numbers and the like."""
    message = str.__getitem__(message, slice(_LOOKED_AT))
    for pattern, instead in _PRIVATE:
        message = pattern.sub(instead, message)
    return message


def is_given(error: object) -> bool:
    """Whether the handler set an error. This runs none of the object's own code, which may raise."""
    return error is not None and not (isinstance(error, str | dict) and len(error) == 0)


def error_of(error: object, keep: ErrorMessage, *, keep_traceback: bool, walk: Sanitizer) -> Any:
    """An event's `error` as it may be sent: type, code, message and, with `keep_traceback`, traceback. Never raises.

    Args:
        error: An exception, text, or a mapping or object with these fields.
        keep: How much of the message is sent.
        keep_traceback: Whether a traceback is sent.
        walk: Counts what is dropped and cut.
    """
    if error is None:
        return None
    try:
        if isinstance(error, BaseException):
            fields: Mapping[Any, Any] = _fields_of(error, keep_traceback)
        elif isinstance(error, str):
            fields = {"message": error}
        else:
            opened = walk.opened(error)
            fields = opened if isinstance(opened, Mapping) else {"message": opened}
        return _error(fields, keep, keep_traceback, walk)
    except Exception:  # the object's own code
        walk.dropped += 1
        return {"type": _name_of(type(error).__name__, walk)}


def _error(fields: Mapping[Any, Any], keep: ErrorMessage, keep_traceback: bool, walk: Sanitizer) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, part in walk.items_of(fields):
        if key in ("type", "code"):
            plain = walk.scalar(part)
            if plain is NOTHING:
                walk.dropped += 1
            elif plain is not None:
                found[key] = _name_of(str(plain), walk)
        elif key == "message":
            if (message := _message(part, keep, walk)) is not None:
                found["message"] = message
        elif key == "traceback":
            if keep_traceback and isinstance(part, str):
                found["traceback"] = walk.text(part[-_MAX_TRACEBACK:], _MAX_TRACEBACK)
        else:
            walk.dropped += 1
    return found


def _message(part: object, keep: ErrorMessage, walk: Sanitizer) -> str | None:
    if keep == "none" or part is None or (keep == "redacted" and isinstance(part, AnswerText)):
        return None
    if not isinstance(part, str):
        plain = walk.scalar(part)
        if plain is NOTHING:
            walk.dropped += 1
            return None
        part = str(plain)
    if keep == "redacted":
        if str.__len__(part) > _LOOKED_AT:
            walk.cut += 1
        part = redacted(part)
    return walk.text(part, _CHARACTERS[keep])


def _name_of(name: str, walk: Sanitizer) -> str:
    """An error's type or code; if it is prose and not a name, a placeholder."""
    if _NAME(name):
        return name
    walk.dropped += 1
    return TEXT_TAKEN_OUT


def _answered(error: BaseException) -> bool:
    """Whether an exception was made from a server's answer; True also if reading its attributes raises."""
    try:
        return any(getattr(error, name, None) is not None for name in _ANSWERS)
    except Exception:
        return True


def _fields_of(error: BaseException, keep_traceback: bool) -> dict[str, Any]:
    """Type and message of an exception, and the SDK's code if it has one."""
    described: dict[str, Any] = {"type": type(error).__name__}
    try:
        described["message"] = AnswerText(error) if _answered(error) else str(error)
    except Exception as failure:
        described["message"] = f"(its text could not be made: {type(failure).__name__})"
    for name in ("code", "status_code"):
        try:
            code = getattr(error, name, None)
        except Exception:  # nosec B112
            continue  # a property of the SDK that raises: no code is sent
        if isinstance(code, str | int) and not isinstance(code, bool):
            described["code"] = code
            break
    if keep_traceback:
        described["traceback"] = "".join(traceback.format_exception(error))
    return described
