"""What benchmarks/results/*.jsonl hold: rows that are checked, and the newest of each kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.step.rows import merged
from golf_fast import json_files
from golf_fast.errors import InputError

Row = dict[str, Any]
TIMING = ("median", "p20", "p80")
TEXTS = ("op", "device", "device_kind", "time")


@dataclass(frozen=True)
class Kind:
    """What a row of a kind has besides `TEXTS`."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    timings: tuple[str, ...] = ()


ALONE = "none"
"""The peer of a row that has none."""
COMPARISON = Kind(("case", "implementation", "peer"), ("ratio", "ratio_p20", "ratio_p80"), ("ours", "theirs"))
WITHOUT_A_PEER = Kind(COMPARISON.texts, (), ("ours",))
KINDS = {
    "step": Kind(("recipe", "dtype", "run", "section"), ("tokens", "projected_devices")),
    "codec": Kind(("coder", "weights"), ("bits", "bits_per_weight", "of_zstd")),
    "quantizers": Kind(("run", "way"), ("bytes", "expected", "bpb", "bpb_before", "val_tokens")),
    "score": Kind(("way", "dtype", "sees"), ("context", "stride", "speedup"), ("us_per_token",)),
    "update": Kind(("recipe", "way", "dtype"), ("ranks", "speedup", "launches", "momentum_bytes"), ("milliseconds",)),
    "against": Kind(
        ("other", "recipe"),
        ("threads", "steps", "wall_ratio", "cpu_ms", "cpu_ms_other", "cpu_ratio", "loss_difference"),
    ),
    "rate": Kind(("way", "of"), ("step", "bits", "above")),
    "ablation": Kind(("recipe", "variant"), ("val_bpb", "steps")),
    "size": Kind(("recipe",), ("bytes", "code")),
    "mechanisms": Kind(("run", "quantizer", "way"), ("bpb_before",)),
}
"""By op; any other op's rows are comparisons with a peer."""


def read(folder: Path) -> list[Row]:
    """All rows of the .jsonl files of a folder, by file name and line.

    Raises:
        InputError: a line is not a measurement.
    """
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            row = json_files.parse(line, f"{path}: line {number}")
            problem = _problem(row)
            if problem:
                raise InputError(f"{path}: line {number} is no measurement: {problem}; mend it or delete it")
            rows.append(row)
    return rows


def _problem(row: object) -> str | None:
    """What keeps a value from being a measurement, or None."""
    if not isinstance(row, dict):
        return "it is no object"
    op = row.get("op")
    kind = WITHOUT_A_PEER if row.get("peer") == ALONE else COMPARISON
    kind = KINDS.get(op, kind) if isinstance(op, str) else kind
    for name in (*TEXTS, *kind.texts):
        if not isinstance(row.get(name), str):
            return f"{name} is {row.get(name)!r}, not a text"
    for name in kind.numbers:
        if not is_positive(row.get(name)):
            return f"{name} is {row.get(name)!r}, not a positive number"
    for name in kind.timings:
        if problem := _timing_problem(row, name):
            return problem
    return _step_problem(row) if op == "step" else None


def _step_problem(row: Row) -> str | None:
    section, floors = row["section"], row.get("floors")
    if not isinstance(floors, list) or len(floors) != 2 or not all(map(is_positive, floors)):
        return f"floors is {floors!r}, not two positive numbers"
    if not isinstance(row.get("updates"), list):
        return f"updates is {row.get('updates')!r}, not a list"
    if section == "whole":
        found = (_timing_problem(row, name) for name in ("micro_step", "forward", "backward"))
        return next(filter(None, found), None)
    if section == "update":
        problem = _part_problem(row.get("update"))
        return f"the update: {problem}" if problem else None
    if section == "part":
        part = row.get("part")
        for way in ("forward", "backward"):
            if problem := _part_problem(part.get(way) if isinstance(part, dict) else None):
                return f"{way} of a part: {problem}"
        return None
    known = ("kernels", "upstream")
    return None if section in known else f"section is {section!r}, not whole, part, update, {' or '.join(known)}"


def _part_problem(part: object) -> str | None:
    if not isinstance(part, dict):
        return "it is no object"
    if not is_positive(part.get("floor")):
        return f"floor is {part.get('floor')!r}, not a positive number"
    return _timing_problem(part, "ms")


def _timing_problem(row: Row, name: str) -> str | None:
    found = row.get(name)
    if not isinstance(found, dict) or not all(is_positive(found.get(key)) for key in TIMING):
        return f"{name} is {found!r}, not three positive numbers of milliseconds"
    return None


def is_positive(value: object) -> bool:
    """Whether it is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def newest_runs(rows: list[Row]) -> list[list[Row]]:
    """For each device, op, case and implementation: the rows of its newest run, one for each peer."""
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = (row["device"], row["op"], row["case"], row["implementation"])
        run = groups.setdefault(key, {})
        newest = next(iter(run.values()), row)["time"]
        if row["time"] > newest:
            run.clear()
        if row["time"] >= newest:
            run[row["peer"]] = row
    return [list(groups[key].values()) for key in sorted(groups)]


def newest_steps(rows: list[Row]) -> list[Row]:
    """The newest run for each device, recipe, number of tokens and dtype, of those that measured a whole micro-step
    and computed it right."""
    newest: dict[tuple[str, str, int, str], Row] = {}
    for row in merged(rows):
        if "micro_step" not in row or row.get("wrong"):
            continue
        key = (row["device"], row["recipe"], row["tokens"], row["dtype"])
        if key not in newest or row["time"] >= newest[key]["time"]:
            newest[key] = row
    return [newest[key] for key in sorted(newest)]


def _newest(rows: list[Row], names: tuple[str, ...]) -> list[Row]:
    """The newest row for each device and each set of values under `names`, in the order of the file."""
    newest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = (row["device"], *(str(row.get(name)) for name in names))
        if key not in newest or row["time"] >= newest[key]["time"]:
            newest[key] = row
    return list(newest.values())


def newest_quantizers(rows: list[Row]) -> list[Row]:
    """The newest row for each device, run and way, in the order of the file."""
    return _newest(rows, ("run", "way"))


def newest_scores(rows: list[Row]) -> list[Row]:
    """The newest row for each device, model, protocol and way of scoring, in the order of the file."""
    return _newest(rows, ("model", "sees", "context", "stride", "dtype", "way"))


def newest_updates(rows: list[Row]) -> list[Row]:
    """The newest row for each device, recipe, number of ranks and way of updating, in the order of the file."""
    return _newest(rows, ("recipe", "ranks", "dtype", "way"))


def newest_against(rows: list[Row]) -> list[Row]:
    """The newest row for each device, recipe, number of threads and what it was measured beside."""
    return _newest(rows, ("recipe", "threads", "other"))


def newest_codecs(rows: list[Row]) -> list[Row]:
    """The newest row for each device, weights, width and coder; the smallest first."""
    newest: dict[tuple[str, str, float, str], Row] = {}
    for row in rows:
        key = (row["device"], row["weights"], row["bits"], row["coder"])
        if key not in newest or row["time"] >= newest[key]["time"]:
            newest[key] = row
    return sorted(newest.values(), key=lambda row: (row["device"], row["weights"], row["bits"], row["bits_per_weight"]))
