"""List and run: `python -m benchmarks [--op OP] [--peer PEER] [--json] [--list]`; `step`, `codec`, ..., `report`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from golf_fast.arguments import Parser
from golf_fast.console import exit_with
from golf_fast.errors import InputError

COMMANDS = {
    "gpu": ("benchmarks.gpu.command", "all that is worth measuring while there is a GPU for minutes"),
    "step": ("benchmarks.step.command", "a whole training micro-step, by part"),
    "tune": ("benchmarks.tune.command", "launch parameters of the kernels"),
    "compile": ("benchmarks.compile_ahead", "compile all kernels, in parallel, before anything is timed"),
    "score": ("benchmarks.score", "what scoring costs a token: as published, in windows, streamed"),
    "against": ("benchmarks.against", "a training step on a CPU beside another commit's, in turns"),
    "update": ("benchmarks.update", "the update of a training step, spread over ranks and in plain form"),
    "codec": ("benchmarks.codec", "the entropy coder against byte compressors"),
    "quantizers": ("benchmarks.quantizers", "ways of quantizing a trained model"),
    "size": ("benchmarks.size", "what bits and clips fill the limit, on random weights like trained ones"),
    "mechanisms": ("benchmarks.mechanisms", "parts of compression at equal bytes, on a trained model"),
    "rate": ("benchmarks.rate", "bits against squared error, uniform, on a trellis and the bound"),
    "recipes": ("benchmarks.recipes", "what finished runs of the recipes reached, for `python -m golf_fast.recipes`"),
    "ablation": ("benchmarks.ablation", "what golf_fast.ablate found, on record and as a table in docs/top.md"),
    "report": ("benchmarks.report.command", "a table and a plot of what was measured"),
}
"""Name -> module, and what it does. Only what is asked for is imported: a kernel is measured with torch, triton and
NumPy, and the others need more packages than that."""


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])
    else:
        measure_ops(arguments)


def measure_ops(arguments: Sequence[str]) -> None:
    """Measure the ops against their peers."""
    import torch

    from benchmarks import results
    from benchmarks.ops import registry
    from benchmarks.ops.runner import measure, measuring

    parser = Parser(
        prog="python -m benchmarks",
        description="Measure the ops against their peers.",
        epilog="; ".join(f"`python -m benchmarks {name} --help`: {does}" for name, (_, does) in COMMANDS.items()) + ".",
    )
    parser.add_argument("--op", choices=registry.OPS, action="append", help="only this op (may be repeated)")
    parser.add_argument("--peer", help="only against this peer; none: time ours without one")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only there (default: wherever this machine can)")
    parser.add_argument("--implementation", help="only this implementation of ours, such as avx512")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    parser.add_argument("--list", action="store_true", help="say what would be measured and stop")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    there = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if options.device is not None and options.device not in there:
        raise InputError("--device is cuda, and torch sees no GPU here")
    red = set()
    for device_kind in there if options.device is None else [options.device]:
        with measuring(device_kind) as (compare, conditions):
            red |= {
                op for op in options.op or registry.OPS if not measure(op, device_kind, options, compare, conditions)
            }
    if red:
        sys.exit(f"wrong results, so no times: {', '.join(sorted(red))}")


if __name__ == "__main__":
    exit_with(main)
