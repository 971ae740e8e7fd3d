"""Run the cases of an op on a device: gate, compare, print, record."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import results
from benchmarks.measure import ALONE, Comparison, compare_on_cpu, one_core
from benchmarks.measure_gpu import Stopwatch, ceilings, compare_on_gpu
from benchmarks.ops import peers, registry
from benchmarks.ops.registry import Case

Compare = Callable[[Case, str], Comparison]


@contextmanager
def measuring(device_kind: str) -> Iterator[tuple[Compare, dict[str, Any]]]:
    """How a case is compared with a peer on a device, and the conditions that are recorded with each result."""
    around = results.environment(device_kind)
    if device_kind == "cpu":
        with one_core() as core:
            yield compare_on_cpu, {**around, "core": core}
    else:
        stopwatch = Stopwatch()
        yield (lambda case, peer: compare_on_gpu(case, peer, stopwatch)), {**around, **ceilings(stopwatch)}


def measure(
    op: str, device_kind: str, options: argparse.Namespace, compare: Compare, conditions: dict[str, Any]
) -> bool:
    """Run the cases of an op on a device, print and record them; false if one computed something wrong."""
    module = registry.load(op)
    for line in module.left_out(device_kind):
        print(f"left out: {line}", file=sys.stderr)
    return measure_cases(module.cases(device_kind), options, compare, conditions)


def measure_cases(
    cases: Iterable[Case], options: argparse.Namespace, compare: Compare, conditions: dict[str, Any]
) -> bool:
    """As `measure`, for any cases; `options` has `peer`, `implementation`, `json` and `list`."""
    good = True
    for case in cases:
        if options.implementation not in (None, case.implementation):
            continue
        names = [
            peer for peer in (*case.peers, ALONE) if peer == options.peer or (options.peer is None and peer != ALONE)
        ]
        if options.list:
            print(f"{case.op}: {case.label} ({case.implementation}) against {', '.join(names)}")
            continue
        if wrong := case.gate():
            print(f"{case.op}: {case.label} ({case.implementation}): WRONG, {wrong}", flush=True)
            good = False
            continue
        for peer in names:
            if peer != ALONE and (wrong := peers.obstacle(case, peer)):
                print(f"left out: {case.op}: {case.label} against {peer}: {wrong}", file=sys.stderr)
                continue
            try:
                compared = compare(case, peer)
            except Exception as error:
                if peer == ALONE:
                    raise
                case.ours()  # where it is ours that fails, or the device that is lost
                print(f"left out: {case.op}: {case.label} against {peer}: {peers.failure(error)}", file=sys.stderr)
                continue
            row = results.record(case, compared, conditions)
            results.append(row)
            print(json.dumps(row) if options.json else as_line(row), flush=True)
    return good


def as_line(row: dict[str, Any]) -> str:
    """A measurement as one line of text."""
    ours, theirs = row["ours"], row["theirs"]
    rate = f"{row['gigabytes_per_second']:5.1f} GB/s"
    if row["device_kind"] == "cuda":
        product = (
            f"{row['teraflops']:4.0f} TFLOP/s ({row['percent_of_gemm']:.0f} % of a GEMM)" if row["teraflops"] else ""
        )
        copy = f"{row['gigabytes_per_second']:5.0f} GB/s ({row['percent_of_copy']:.0f} % of a copy)"
        rate = product or copy
    own = (
        f"{row['case']:34} {row['implementation']:9} {ours['median']:7.3f} ms ({ours['p20']:.3f} to {ours['p80']:.3f})"
    )
    if theirs is None:
        return f"{own} {rate} | {row['rounds']} rounds"
    return (
        f"{own} {rate} | {row['peer']:7} {theirs['median']:8.2f} ms |"
        f" {row['ratio']:6.2f} x ({row['ratio_p20']:.2f} to {row['ratio_p80']:.2f}, {row['rounds']} pairs)"
    )
