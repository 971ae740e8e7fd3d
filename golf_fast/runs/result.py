"""`result.json`: what a run reached, and whether it counts."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from golf_fast.errors import InputError
from golf_fast.files import replacing
from golf_fast.rules import SIZE_LIMIT_BYTES
from golf_fast.runs.plain import plain


@dataclass(frozen=True)
class Result:
    """The result of a run. A measurement that was not made (or is not finite) is None.

    `total_bytes`, `fits` and `legal` follow from the other fields and are not given.
    """

    run_id: str
    recipe: str
    seed: int
    params: int
    """Elements of all parameters."""
    steps: int
    train_seconds: float
    tokens_per_second: float | None
    """Training tokens, over all ranks."""
    val_loss: float | None
    """Nats a token."""
    val_bpb: float | None
    """Bits per byte of the artifact, with test-time training if the run has it: the score."""
    val_tokens: int | None
    val_bytes: int | None
    bpb_before_compression: float | None
    bpb_without_ttt: float | None
    artifact_bytes: int | None
    code_bytes: int
    track: Literal["A", "B"]
    """A: a fixed predictor. B: it adapts while it is scored."""
    violations: list[str]
    """Rules that the run breaks, by their number."""
    eval_seconds: float | None
    device: str
    world_size: int
    versions: dict[str, str]
    data_fingerprint: str
    backends: dict[str, dict[str, str]]
    """op -> {"name", "reason"}"""
    compute_dtype: str
    recompiles: int
    peak_memory_bytes: int
    finished: bool
    code_hash: str = ""
    """SHA-256 of the sources that code_bytes counts."""
    artifact_parts: dict[str, int] = field(default_factory=dict)
    """Part of the artifact -> bytes."""
    baselines: dict[str, float] = field(default_factory=dict)
    """General compressor -> bits per byte of the same validation text."""
    total_bytes: int | None = field(init=False)
    fits: bool = field(init=False)
    legal: bool = field(init=False)

    def __post_init__(self) -> None:
        total = None if self.artifact_bytes is None else self.artifact_bytes + self.code_bytes
        object.__setattr__(self, "total_bytes", total)
        object.__setattr__(self, "fits", total is not None and total <= SIZE_LIMIT_BYTES)
        object.__setattr__(self, "legal", not self.violations)

    def write(self, path: Path) -> None:
        """Write `path` whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(path, "w") as file:
            json.dump(plain(dataclasses.asdict(self)), file, indent=2, allow_nan=False)
            file.write("\n")


def read(path: Path) -> Result:
    """The result in `path`. Fields that are not known here are passed over.

    Raises:
        InputError: the file is missing, is no result, or its totals and verdicts do not follow from its numbers.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name the result.json of a run") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from None
    if not isinstance(held, dict):
        raise InputError(f"{path}: holds a {type(held).__name__}, where a result is an object")
    types_of = typing.get_type_hints(Result)
    for entry in dataclasses.fields(Result):
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if entry.name not in held and needed:
            raise InputError(f"{path}: has no {entry.name}; a result has one")
        if entry.name in held and not _is(held[entry.name], types_of[entry.name]):
            wanted = getattr(types_of[entry.name], "__name__", types_of[entry.name])
            raise InputError(f"{path}: {entry.name} is {held[entry.name]!r}, which is no {wanted}")
    names = [entry.name for entry in dataclasses.fields(Result) if entry.init and entry.name in held]
    result = Result(**{name: held[name] for name in names})
    for name in ("total_bytes", "fits", "legal"):
        if getattr(result, name) != held[name]:
            raise InputError(f"{path}: {name} is {held[name]}, but its other fields make it {getattr(result, name)}")
    return result


def _is(value: Any, wanted: Any) -> bool:
    """Whether a value read from JSON has the type of a field."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Literal:
        return value in arguments
    if origin is types.UnionType:
        return any(_is(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(_is(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(item, arguments[1]) for item in value.values())
    if wanted in (int, float):
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    return isinstance(value, wanted)
