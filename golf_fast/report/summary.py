"""The tables and the verdict that a run ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from golf_fast.report.table import table
from golf_fast.rules import in_words
from golf_fast.runs.result import Result


class Step(Protocol):
    """A step of the compression: its name, and what the model is after it."""

    @property
    def name(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def bpb(self) -> float | None: ...


def compression_table(steps: Sequence[Step]) -> str:
    """What each step cost or saved, against the step before it."""
    rows = [
        [
            step.name,
            f"{step.bytes:,}",
            f"{step.bytes - before.bytes:+,}" if before else "",
            _number(step.bpb, ".5f"),
            _difference(step.bpb, before.bpb if before else None),
        ]
        for before, step in zip([None, *steps], steps, strict=False)
    ]
    return table(["compression", "bytes", "change", "bits per byte, training tokens", "change"], rows)


def stages_table(stages: Sequence[tuple[str, float, int | None, float | None]]) -> str:
    """Name, seconds, bytes of the model and bits per byte of each stage."""
    rows = [[name, f"{seconds:.1f}", _number(size, ","), _number(bpb, ".4f")] for name, seconds, size, bpb in stages]
    return table(["stage", "seconds", "bytes", "bits per byte"], rows)


def baselines_table(result: Result) -> str:
    """What byte compressors make of the same text, and the run."""
    rows = [[name, f"{bpb:.4f}"] for name, bpb in result.baselines.items()]
    return table(["the same validation text", "bits per byte"], [*rows, ["this run", _number(result.val_bpb, ".4f")]])


def verdict(result: Result) -> str:
    """The score, whether it counts, and the size, in a line; then what could not be judged."""
    legal = in_words(result.violations, result.not_judged)
    line = (
        f"val_bpb:{_number(result.val_bpb, '.4f')} {legal}, track {result.track}; {_number(result.total_bytes, ',')} "
        f"bytes ({_number(result.artifact_bytes, ',')} artifact, {result.code_bytes:,} code), "
        f"{'fits' if result.fits else 'DOES NOT FIT'}"
    )
    return "\n".join([line, *(f"not judged: {said}" for said in result.not_judged)])


def _difference(after: float | None, before: float | None) -> str:
    return "" if after is None or before is None else f"{after - before:+.5f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
