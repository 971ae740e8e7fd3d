"""A measured micro-step for people: a line for each section as it comes, and all of it together."""

from __future__ import annotations

from typing import Any

from golf_fast.report.table import Cell, table

Row = dict[str, Any]


def section_line(row: Row) -> str:
    """What a row of `benchmarks.step.measure` has found, in a line or a table."""
    section = row["section"]
    if section == "whole":
        return _whole(row)
    if section == "part":
        part = row["part"]
        ways = [f"{way} {_beside_floor(part[way])}" for way in ("forward", "backward")]
        return f"{_name(part)}: {', '.join(ways)}"
    if section == "update":
        return f"update, {row['update']['name']}: {_beside_floor(row['update'])}{_host(row['update'])}"
    return "\n".join(_kernel_lines(row) if section == "kernels" else _upstream_lines(row))


def as_text(record: Row) -> str:
    """Tables and sentences of a record of `benchmarks.step.rows` that has a whole; not what its rows were tables of."""
    blocks = [
        f"{record['recipe']}: one micro-step of {record['tokens']:,} tokens in rows of {record['seq_len']:,}, "
        f"{record['dtype']}, {'compiled' if record['compiled'] else 'not compiled'}, on {record['device']}\n"
        f"ceilings of this run: {record['ceiling_teraflops']:.3g} TFLOP/s (product), "
        f"{record['ceiling_gigabytes_per_second']:,.0f} GB/s (copy, read + write)\n"
        "ops: " + ", ".join(f"{op} {name}" for op, name in record["backends"].items())
    ]
    if record["parts"]:
        blocks.append(table(["part", "forward ms", "floor", "x", "backward ms", "floor", "x"], _part_rows(record)))
    if record["optimizer"]:
        rows = [[*_cells(part["name"], part), _milliseconds(part["host_ms"])] for part in record["optimizer"]]
        blocks.append(table(["update", "ms", "floor", "x", "host ms"], rows))
    blocks.append(_whole(record))
    if "projected_step" in record:
        devices = record["projected_devices"]
        blocks.append(
            f"projected step of {devices} such devices, {devices * record['tokens']:,} tokens: "
            f"{record['projected_step']:.4g} ms. A projection: the micro-step and the update of one device, without "
            "what the devices say to each other, and with Newton-Schulz not yet shared among them"
        )
    if record.get("wrong"):
        blocks.append(f"WRONG, so these times are no measurements: {record['wrong']}")
    return "\n\n".join(blocks)


def _whole(row: Row) -> str:
    whole, floor = row["micro_step"], sum(row["floors"])
    rate = row["teraflop"] / whole["median"] * 1e3
    return (
        f"micro-step {_span(whole)} ms{_host(row)}, {whole['median'] / floor:.2f} x its floor of {floor:.3g} ms; "
        f"{row['teraflop']:.3g} TFLOP at {rate:.3g} TFLOP/s, {100 * rate / row['ceiling_teraflops']:.0f} % of the "
        f"product's ceiling\nmemory at most {row['peak_memory_bytes'] / 2**20:,.0f} MiB in forward and backward"
    )


def _part_rows(record: Row) -> list[list[Cell]]:
    rows = []
    for part in record["parts"]:
        rows.append([*_cells(_name(part), part["forward"]), *_cells("", part["backward"])[1:]])
    whole = [record[way]["median"] for way in ("forward", "backward")]
    of_parts = [sum(part[way]["ms"]["median"] for part in record["parts"]) for way in ("forward", "backward")]
    floors = [sum(part[way]["floor"] for part in record["parts"]) for way in ("forward", "backward")]

    def line(name: str, times: list[float], against: bool = True) -> list[Cell]:
        cells: list[Cell] = [name]
        for time, floor in zip(times, floors, strict=True):
            cells += [f"{time:.3f}", *([f"{floor:.3f}", f"{time / floor:.2f}"] if against else [None, None])]
        return cells

    rest = [a - b for a, b in zip(whole, of_parts, strict=True)]
    return [*rows, line("all parts", of_parts), line("measured as a whole", whole), line("not in a part", rest, False)]


def _name(part: Row) -> str:
    return part["name"] if part["times"] == 1 else f"{part['name']}, {part['times']} times"


def _cells(name: str, part: Row) -> list[Cell]:
    ratio = part["times_floor"]
    return [name, f"{part['ms']['median']:.3f}", f"{part['floor']:.3f}", None if ratio is None else f"{ratio:.2f}"]


def _beside_floor(part: Row) -> str:
    ratio = f", {part['times_floor']:.2f} x its floor" if part["times_floor"] else ""
    return f"{part['ms']['median']:.3f} ms{ratio}"


def _host(row: Row) -> str:
    return "" if row["host_ms"] is None else f" (queued by the host in {row['host_ms']:.2f} ms)"


def _milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _span(timing: dict[str, float]) -> str:
    return f"{timing['median']:.4g} ({timing['p20']:.4g} to {timing['p80']:.4g})"


def _kernel_lines(row: Row) -> list[str]:
    if not row.get("kernels"):
        return []
    rows: list[list[Cell]] = [[k["name"][:70], f"{k['ms']:.3f}", k["calls"]] for k in row["kernels"]]
    return [table(["kernel, of one profiled micro-step", "ms", "calls"], rows)]


def _upstream_lines(row: Row) -> list[str]:
    found = row.get("upstream")
    if found is None:
        return []
    ratio = "no ratio, for it computes another function"
    if found["ratio"] is not None:
        ratio = f"{found['ratio']:.2f} x ({found['ratio_p20']:.2f} to {found['ratio_p80']:.2f}) the time of ours"
    return [
        f"upstream {found['file']}: micro-step {_span(found['theirs'])} ms, ours in the same pairs "
        f"{_span(found['ours'])} ms: {ratio} ({found['rounds']} pairs)"
    ]
