"""List and run the benchmarks: `python -m benchmarks [--op OP] [--peer PEER] [--json] [--list]`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import registry, results
from benchmarks.measure import compare_on_cpu, one_core


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the ops against their peers.")
    parser.add_argument("--op", choices=registry.OPS, action="append", help="only this op (may be repeated)")
    parser.add_argument("--peer", help="only against this peer")
    parser.add_argument("--implementation", help="only this implementation of ours, such as avx512")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    parser.add_argument("--list", action="store_true", help="say what would be measured and stop")
    options = parser.parse_args()
    red = [op for op in options.op or registry.OPS if not measure(op, options)]
    if red:
        sys.exit(f"wrong results, so no times: {', '.join(red)}")


def measure(op: str, options: argparse.Namespace) -> bool:
    """Run the cases of an op on this machine's CPU, print and record them; false if one computed something wrong."""
    module, good = registry.load(op), True
    around = results.environment("cpu")
    for line in module.left_out("cpu"):
        print(f"left out: {line}", file=sys.stderr)
    with one_core() as core:
        for case in module.cases("cpu"):
            if options.implementation not in (None, case.implementation):
                continue
            peers = [peer for peer in case.peers if options.peer in (None, peer)]
            if options.list:
                print(f"{case.op}: {case.label} ({case.implementation}) against {', '.join(peers)}")
                continue
            if wrong := case.gate():
                print(f"{case.op}: {case.label} ({case.implementation}): WRONG, {wrong}", flush=True)
                good = False
                continue
            for peer in peers:
                row = results.record(case, compare_on_cpu(case, peer), {**around, "core": core})
                results.append(row)
                print(json.dumps(row) if options.json else as_line(row), flush=True)
    return good


def as_line(row: dict[str, Any]) -> str:
    """A measurement for people."""
    ours, theirs = row["ours"], row["theirs"]
    return (
        f"{row['case']:34} {row['implementation']:9} {ours['median']:7.2f} ms ({ours['p20']:.2f} to {ours['p80']:.2f})"
        f" {row['gigabytes_per_second']:5.1f} GB/s | {row['peer']:7} {theirs['median']:8.2f} ms |"
        f" {row['ratio']:6.2f} x ({row['ratio_p20']:.2f} to {row['ratio_p80']:.2f}, {row['rounds']} pairs)"
    )


if __name__ == "__main__":
    main()
