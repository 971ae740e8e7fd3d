"""What the fields of a configuration are checked with, and the mark of those that were added later."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from golf_fast.errors import InputError

Value = TypeVar("Value")

MOST = 2**31 - 1
"""Greatest magnitude of a number that has no closer limit of its own: whole numbers fit into 32 bits."""


def later(default: Value) -> Value:
    """A field that was added after files with its dataclass were written: where a file lacks it, `default` is meant."""
    made: Value = dataclasses.field(default=default, metadata={"later": True})
    return made


def for_file(config: Any) -> dict[str, Any]:
    """The fields of a flat dataclass for a file, but for those that were added later and have the value that is meant
    where a file lacks them: so a file that has no use for them is the same to the byte as before they were there."""
    unused = {
        field.name
        for field in dataclasses.fields(config)
        if field.metadata.get("later") and getattr(config, field.name) == field.default
    }
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in unused}


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Refuse a value.

    Raises:
        InputError: `condition` is false; says that `name` is `value` and must be `expected`.
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

    The limit is what `most` says, else `MOST`: no run needs more. What is beyond is a slip, or comes from a stranger,
    and would take all memory or time of the machine, or leave the range of float32.
    """
    for name, value in vars(config).items():
        if isinstance(value, int | float):
            limit = most.get(name, MOST)
            require(abs(value) <= limit, f"{prefix}.{name}", value, f"a finite number, at most {limit}")
