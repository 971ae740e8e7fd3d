"""Checks of configuration fields, and the mark for fields that were added to a dataclass later."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from golf_fast.errors import InputError

Value = TypeVar("Value")

MOST = 2**31 - 1
"""Greatest magnitude of a number without a tighter limit of its own: whole numbers fit into 32 bits."""


def later(default: Value) -> Value:
    """A field that was added after files with its dataclass were written; a file without it means `default`."""
    made: Value = dataclasses.field(default=default, metadata={"later": True})
    return made


def for_file(config: Any) -> dict[str, Any]:
    """The fields of a flat dataclass to be written to a file, without those that were added later and have their
    default value: a file that does not use them is byte-identical to one written before they existed."""
    unused = {
        field.name
        for field in dataclasses.fields(config)
        if field.metadata.get("later") and getattr(config, field.name) == field.default
    }
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in unused}


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Check a condition on a value.

    Raises:
        InputError: `condition` is false; the message says that `name` is `value` and must be `expected`.
    """
    if not condition:
        said = str(value)
        raise InputError(f"{name} is {said if len(said) <= 200 else said[:200] + ' ...'}: it must be {expected}")


def require_positive(config: Any, prefix: str, *names: str) -> None:
    """Require that each of these fields is more than 0 and finite."""
    for name in names:
        value = getattr(config, name)
        require(0 < value < math.inf, f"{prefix}.{name}", value, "more than 0 and finite")


def require_not_negative(config: Any, prefix: str, *names: str) -> None:
    """Require that each of these fields is 0 or more and finite."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value < math.inf, f"{prefix}.{name}", value, "0 or more and finite")


def require_numbers(config: Any, prefix: str, **most: int) -> None:
    """Require that every number of a configuration is finite and at most its limit.

    The limit of a field is given by `most`, else it is `MOST`. No run needs more: a larger value is a mistake or comes
    from an untrusted file, and would exhaust memory or time, or leave the range of float32.
    """
    for name, value in vars(config).items():
        if isinstance(value, int | float):
            limit = most.get(name, MOST)
            require(abs(value) <= limit, f"{prefix}.{name}", value, f"a finite number, at most {limit}")
