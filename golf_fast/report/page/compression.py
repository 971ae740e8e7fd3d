"""What compression did, on the page of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from golf_fast.report.html import number, table


def steps(records: Sequence[Mapping[str, Any]]) -> str:
    """What each step cost or saved, against the step before it."""
    steps = [record for record in records if record.get("kind") == "compression"]
    rows = []
    for before, step in zip([{}, *steps], steps, strict=False):
        change = [_difference(step, before, key) for key in ("bytes", "bpb")]
        size, bpb = number(step.get("bytes"), ",d"), number(step.get("bpb"), ".5f")
        rows.append((step.get("name"), size, number(change[0], "+,d"), bpb, number(change[1], "+.5f")))
    headers = ("step", "bytes", "change", "bits per byte, training tokens", "change")
    return table(headers, rows, numbers=(1, 2, 3, 4)) if rows else ""


def tensors(records: Sequence[Mapping[str, Any]]) -> str:
    """What each quantized tensor takes and loses, the worst for the loss first."""
    tensors = [record for record in records if record.get("kind") == "tensor"]
    tensors.sort(key=lambda record: -_magnitude(record.get("bpb_change")))
    rows = [
        (
            record.get("name"),
            record.get("form"),
            number(record.get("elements"), ",d"),
            number(record.get("bits"), ".3f"),
            number(record.get("error"), ".2%"),
            number(record.get("output_error"), ".2%"),
            number(record.get("bpb_change"), "+.5f"),
        )
        for record in tensors
    ]
    headers = ("tensor", "form", "elements", "bits each", "error", "error of outputs", "bits per byte lost")
    return table(headers, rows, numbers=(2, 3, 4, 5, 6)) if rows else ""


def _difference(after: Mapping[str, Any], before: Mapping[str, Any], key: str) -> Any:
    new, old = after.get(key), before.get(key)
    return new - old if isinstance(new, int | float) and isinstance(old, int | float) else None


def _magnitude(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
