"""A strict JSON reader for files and servers, whose errors name the file and the line."""

from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from golf_fast.errors import InputError
from golf_fast.files import read_bytes

MAX_BYTES = 64 << 20
"""Greatest size in bytes of a file that is read at once, and of a line of a file that is read by lines."""
MAX_DEPTH = 64
"""Greatest nesting depth of objects and lists, including the outermost."""
_INTEGER_DIGITS = 20
_DIGITS_AS_0 = bytes(ord("0") if chr(byte).isdecimal() else 1 for byte in range(256))
_MANY_DIGITS = b"0" * 19
_INTEGERS = range(-(1 << 63), 1 << 64)
_Scalar = None | bool | int | float | str


class _Wrong(ValueError):
    """A value that JSON allows but this reader refuses; the message names it."""


def parse(content: bytes | str, where: str, *, numbers: bool = True, depth: int = MAX_DEPTH) -> Any:
    """Parse a JSON text into plain values (None, bool, int, float, str, list, dict).

    Besides invalid JSON it refuses bytes that are not UTF-8, objects with duplicate keys, NaN and infinities, whole
    numbers beyond 64 bits, and nesting deeper than `depth`.

    Args:
        content: the text.
        where: beginning of error messages: a path, an address, or a line of a file.
        numbers: whether numbers matter. If false, any number is accepted (also NaN) as a float, and of duplicate keys
            the last counts.
        depth: greatest nesting depth of objects and lists.

    Raises:
        InputError: the text is refused; the message begins with `where` and names the line, if there are several.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = _loads(text.removeprefix("\ufeff"), numbers)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        where = _with_line(where, line)
        raise InputError(f"{where}: is not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{_with_line(where, error.lineno)}: is not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{where}: {_too_deep(depth)}") from None
    except _Wrong as error:
        raise InputError(f"{where}: {error}") from None
    if _deeper(value, depth):
        raise InputError(f"{where}: {_too_deep(depth)}")
    return value


def quick(line: bytes) -> dict[str, Any] | None:
    """The result of `parse` for a short line with a flat object, or None if `parse` must decide.

    It is much faster, for files of many lines. Its decoder accepts no nested object and no list deeper than pairs.
    Where it might accept what `parse` refuses, the decision is left to `parse`: a duplicate key or a text with a colon
    shows as an additional colon, and a number beyond 64 bits as a long run of digits.
    """
    decode, failures = _decoder()
    try:
        value = decode(line)
    except failures:
        return None
    sure = line.count(b":") == len(value) and _MANY_DIGITS not in line.translate(_DIGITS_AS_0)
    return value if sure else None


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause Python's search for cycles, which takes most of the time where hundreds of thousands of objects are made
    and none is part of a cycle, as for records or syntax trees."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def _decoder() -> tuple[Callable[[bytes], dict[str, Any]], tuple[type[Exception], ...]]:
    """The fast decoder, and the exceptions that it raises on a text that is not a flat object."""
    import msgspec  # imported here, so that programs that read no file of many lines do not need it

    flat = dict[str, _Scalar | list[_Scalar | list[_Scalar]]]
    return msgspec.json.Decoder(flat).decode, (msgspec.MsgspecError, UnicodeDecodeError)


def read(path: Path, needed: str, most: int = MAX_BYTES) -> Any:
    """The plain values in a JSON file.

    Args:
        path: the file.
        needed: end of error messages, such as "the result.json of a run is needed".
        most: greatest size in bytes.

    Raises:
        InputError: the file cannot be read, is too large, or `parse` refuses it.
    """
    return parse(read_bytes(path, needed, most), str(path))


def read_object(path: Path, needed: str, most: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: as `read`; or the file holds another kind of value.
    """
    held = read(path, needed, most)
    if not isinstance(held, dict):
        raise InputError(f"{path}: holds {_kind(held)}, where an object is due; {needed}")
    return held


def lines(path: Path, needed: str, *, whole: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one object per line, with their line numbers; blank lines are skipped.

    Args:
        path: the file.
        needed: end of error messages.
        whole: whether the last line must be complete; a killed run may leave a partial line.

    Raises:
        InputError: as `read_object`, for the line that is wrong.
    """
    content = read_bytes(path, needed)
    end = content.rfind(b"\n") + 1
    for number, line in enumerate((content if whole else content[:end]).split(b"\n"), start=1):
        if line.strip():
            value = parse(line, f"{path}: line {number}")
            if not isinstance(value, dict):
                raise InputError(f"{path}: line {number}: holds {_kind(value)}, where an object is due; {needed}")
            yield number, value


def _loads(text: str, numbers: bool) -> Any:
    if not numbers:
        return json.loads(text, parse_int=float)  # noqa: TID251
    return json.loads(  # noqa: TID251
        text, parse_int=_integer, parse_float=_finite, parse_constant=_no_number, object_pairs_hook=_object
    )


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS or (value := int(text)) not in _INTEGERS:
        raise _Wrong(f"holds a whole number of {len(text.lstrip('-'))} digits; at most 64 bits are read")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Wrong(f"holds the number {text[:40]}, which is beyond every float64")
    return value


def _no_number(text: str) -> NoReturn:
    raise _Wrong(f"holds {text}, which is no number in JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise _Wrong(f"holds an object with {twice[0][:80]!r} twice")
    return held


def _deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested deeper than `depth`, determined without recursion."""
    level = [value]
    for _ in range(depth):
        held = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in held for inner in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, dict | list) for item in level)


def _too_deep(depth: int) -> str:
    return f"is nested more than {depth} deep"


def _with_line(where: str, line: int) -> str:
    """`where`, with the number of the line unless it is the first."""
    return where if line == 1 else f"{where}: line {line}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {"bool": "true or false", "int": "a number", "float": "a number", "str": "a text", "list": "a list"}.get(
        type(value).__name__, "an object"
    )
