"""Strict conversion of plain JSON values to frozen dataclasses, for configurations and records in files."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from golf_fast.errors import InputError

Kind = TypeVar("Kind")

_SHOWN = 60
"""Number of characters of a wrong value that an error message shows."""
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    types.NoneType: "null",
}


def from_plain(kind: type[Kind], value: object, path: Path, name: str = "", *, lenient: bool = False) -> Kind:
    """Make a dataclass, whose fields may be dataclasses, of the plain values in a file.

    The only conversions are from a list to a tuple, from a text to a path and from a whole number to a float: true is
    not a number, 3.0 is not a whole number, and a value that a `Literal` does not list is refused.

    Args:
        kind: the dataclass.
        value: plain JSON values.
        path: the file that they are from, for error messages.
        name: dotted name of `value` in the file; "": it is the whole content.
        lenient: whether to ignore unknown fields, and to use defaults for missing ones. If false both are errors,
            except for missing fields that are marked by `golf_fast.checks.later`.

    Raises:
        InputError: a field is wrong; the message names the file, the dotted field, its value, and what would be right.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(value, dict):
        raise _wrong(path, name or "the content", value, f"an object, the fields of a {kind.__name__}")
    wanted = {field.name: field for field in dataclasses.fields(kind) if field.init}
    if not lenient:
        _refuse_unknown(value, wanted, path, name)
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for key, field in wanted.items():
        dotted = f"{name}.{key}" if name else key
        if key in value:
            made[key] = _field(hints[key], value[key], path, dotted, lenient)
        elif not _has_default(field) or not (lenient or field.metadata.get("later")):
            raise InputError(f"{path}: has no {dotted}; it must have one, {_words(hints[key])}")
    try:
        return kind(**made)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _field(hint: Any, value: object, path: Path, dotted: str, lenient: bool) -> Any:
    if typing.get_origin(hint) is types.UnionType and value is not None:
        hint = next(filter(dataclasses.is_dataclass, typing.get_args(hint)), hint)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_plain(hint, value, path, dotted, lenient=lenient)
    import msgspec  # imported here, so that programs that read no file with a dataclass do not need it

    try:
        return msgspec.convert(value, hint, strict=True, dec_hook=_to_path)
    except (msgspec.ValidationError, RecursionError):
        raise _wrong(path, dotted, value, _words(hint)) from None


def _to_path(wanted: type, value: object) -> object:
    """Convert a text to a path, the only type that is neither JSON's nor a dataclass; a path has no null character."""
    if wanted is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    raise TypeError(value)


def _refuse_unknown(value: dict[Any, Any], wanted: Iterable[str], path: Path, name: str) -> None:
    for key in value:
        if key not in wanted:
            dotted = _shown(f"{name}.{key}" if name else str(key))[1:-1]
            near = difflib.get_close_matches(str(key)[:_SHOWN], wanted, n=1)
            right = f"did you mean {near[0]}?" if near else f"this version has {', '.join(wanted)}"
            raise InputError(f"{path}: {dotted} is no field of this version; {right}")


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _wrong(path: Path, dotted: str, value: object, right: str) -> InputError:
    return InputError(f"{path}: {dotted} is {_shown(value)}: it must be {right}")


def _shown(value: object) -> str:
    """A value as in the file, on one line and shortened."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _words(hint: Any) -> str:
    """A description of the values of a type, for error messages."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(json.dumps, arguments))}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"a list, each {_words(arguments[0])}"
    if origin is dict:
        return f"an object, each value {_words(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "an object"
    return _WORDS[hint]
