"""A measured micro-step for people."""

from __future__ import annotations

from typing import Any

from golf_fast.report.table import Cell, table


def as_text(row: dict[str, Any]) -> str:
    """Tables and sentences of a row of `benchmarks.step`."""
    whole, floors = row["micro_step"], _floors(row)
    rate = row["teraflop"] / whole["median"] * 1e3
    lines = [
        f"{row['recipe']}: one micro-step of {row['tokens']:,} tokens in rows of {row['seq_len']:,}, {row['dtype']}, "
        f"{'compiled' if row['compiled'] else 'not compiled'}, on {row['device']}",
        f"ceilings of this run: {row['ceiling_teraflops']:.3g} TFLOP/s (product), "
        f"{row['ceiling_gigabytes_per_second']:,.0f} GB/s (copy, read + write)",
        "ops: " + ", ".join(f"{op} {name}" for op, name in row["backends"].items()),
        "",
        table(["part", "forward ms", "floor", "x", "backward ms", "floor", "x"], _part_rows(row, floors)),
        "",
        table(["update", "ms", "floor", "x"], [_cells(part["name"], part) for part in row["optimizer"]]),
        "",
        f"micro-step {_span(whole)} ms, {whole['median'] / sum(floors):.2f} x its floor of {sum(floors):.3g} ms; "
        f"{row['teraflop']:.3g} TFLOP at {rate:.3g} TFLOP/s, {100 * rate / row['ceiling_teraflops']:.0f} % of the "
        "product's ceiling",
        f"memory at most {row['peak_memory_bytes'] / 2**20:,.0f} MiB in forward and backward",
        f"projected step of {row['projected_devices']} such devices, {row['projected_devices'] * row['tokens']:,} "
        f"tokens: {row['projected_step']:.4g} ms. A projection: the micro-step and the update of one device, without "
        "what the devices say to each other, and with Newton-Schulz not yet shared among them",
        *_kernel_lines(row),
        *_upstream_lines(row),
    ]
    return "\n".join(lines)


def _floors(row: dict[str, Any]) -> tuple[float, float]:
    """Forward and backward of all parts."""
    ahead, back = (sum(part[way]["floor"] for part in row["parts"]) for way in ("forward", "backward"))
    return ahead, back


def _part_rows(row: dict[str, Any], floors: tuple[float, float]) -> list[list[Cell]]:
    rows = []
    for part in row["parts"]:
        name = part["name"] if part["times"] == 1 else f"{part['name']}, {part['times']} times"
        rows.append([*_cells(name, part["forward"]), *_cells("", part["backward"])[1:]])
    whole = [row[way]["median"] for way in ("forward", "backward")]
    of_parts = [sum(part[way]["ms"]["median"] for part in row["parts"]) for way in ("forward", "backward")]

    def line(name: str, times: list[float], against: bool = True) -> list[Cell]:
        cells: list[Cell] = [name]
        for time, floor in zip(times, floors, strict=True):
            cells += [f"{time:.3f}", *([f"{floor:.3f}", f"{time / floor:.2f}"] if against else [None, None])]
        return cells

    rest = [a - b for a, b in zip(whole, of_parts, strict=True)]
    return [*rows, line("all parts", of_parts), line("measured as a whole", whole), line("not in a part", rest, False)]


def _cells(name: str, part: dict[str, Any]) -> list[Cell]:
    ratio = part["times_floor"]
    return [name, f"{part['ms']['median']:.3f}", f"{part['floor']:.3f}", None if ratio is None else f"{ratio:.2f}"]


def _span(timing: dict[str, float]) -> str:
    return f"{timing['median']:.4g} ({timing['p20']:.4g} to {timing['p80']:.4g})"


def _kernel_lines(row: dict[str, Any]) -> list[str]:
    if not row["kernels"]:
        return []
    rows: list[list[Cell]] = [[k["name"][:70], f"{k['ms']:.3f}", k["calls"]] for k in row["kernels"]]
    return ["", table(["kernel, of one profiled micro-step", "ms", "calls"], rows)]


def _upstream_lines(row: dict[str, Any]) -> list[str]:
    found = row["upstream"]
    if found is None:
        return []
    ratio = "no ratio, for it computes another function"
    if found["ratio"] is not None:
        ratio = f"{found['ratio']:.2f} x ({found['ratio_p20']:.2f} to {found['ratio_p80']:.2f}) the time of ours"
    return [
        f"upstream {found['file']}: micro-step {_span(found['theirs'])} ms, ours in the same pairs "
        f"{_span(found['ours'])} ms: {ratio} ({found['rounds']} pairs)"
    ]
