"""List and run: `python -m benchmarks [--op OP] [--peer PEER] [--json] [--list]`; `step`, `codec`, ..., `report`."""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks import codec, quantizers
from benchmarks.ops import registry
from benchmarks.ops.runner import measure, measuring
from benchmarks.report import command as report
from benchmarks.step import command as step
from benchmarks.tune import command as tune
from golf_fast.console import exit_with

COMMANDS = {
    "step": step.main, "tune": tune.main, "codec": codec.main, "quantizers": quantizers.main, "report": report.main
}  # fmt: skip


def main() -> None:
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the ops against their peers.",
        epilog="`python -m benchmarks step --help`: a whole training micro-step, by part. "
        "`python -m benchmarks tune --help`: launch parameters of the kernels. "
        "`python -m benchmarks codec --help`: the entropy coder against byte compressors. "
        "`python -m benchmarks quantizers --help`: ways of quantizing a trained model. "
        "`python -m benchmarks report --help`: a table and a plot of what was measured.",
    )
    parser.add_argument("--op", choices=registry.OPS, action="append", help="only this op (may be repeated)")
    parser.add_argument("--peer", help="only against this peer")
    parser.add_argument("--implementation", help="only this implementation of ours, such as avx512")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    parser.add_argument("--list", action="store_true", help="say what would be measured and stop")
    options = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    red = set()
    for device_kind in devices:
        with measuring(device_kind) as (compare, conditions):
            red |= {
                op for op in options.op or registry.OPS if not measure(op, device_kind, options, compare, conditions)
            }
    if red:
        sys.exit(f"wrong results, so no times: {', '.join(sorted(red))}")


if __name__ == "__main__":
    exit_with(main)
