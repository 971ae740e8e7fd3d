"""Launch parameters of the kernels against those that are chosen now: `python -m benchmarks tune`.

Without a GPU it compiles them all for sm_90 and says what the compiler reports: what spills or does not fit is out
before a GPU is asked.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.measure import Comparison
from benchmarks.ops.registry import Case
from benchmarks.ops.runner import measure_cases, measuring
from benchmarks.tune.kernels import ARCH, Kernel, Shapes, kernels
from golf_fast.arguments import Parser
from golf_fast.errors import InputError
from golf_fast.ops.absent_gpu import SHARED_LIMIT, Compiled, compile_launch
from golf_fast.ops.launch import Launch

MARGIN = 0.01
"""Share by which a choice must be faster in four of five pairs to be taken: medians of 51 pairs differ by less."""
_MLP, _QK, _MIX = (f"golf_fast/ops/{op}/triton.py" for op in ("relu2_mlp", "qk_norm_rope", "residual_mix"))
_ATTENTION = "choose_tiles of golf_fast/ops/window_attention/launches.py"
PLACES = {
    "mlp-up": f"TILES of {_MLP}",
    "mlp-dpre": f"TILES of {_MLP}",
    "linear-residual": "TILES of golf_fast/ops/linear_residual/triton.py",
    "attention": _ATTENTION,
    "attention-dq": _ATTENTION,
    "attention-dkv": _ATTENTION,
    "qk": f"choose_block of {_QK}",
    "qk-backward": f"choose_block of {_QK}",
    "residual-mix": f"choose_block of {_MIX}",
    "residual-mix-backward": f"choose_block of {_MIX}",
}
"""Kernel -> where its launch parameters are chosen."""


def describe(choice: Any) -> str:
    """Launch parameters in words, without those that are not set."""
    shown = {k: v for k, v in dataclasses.asdict(choice).items() if v is not None and v is not True}
    return " ".join(f"{name} {value}" for name, value in shown.items())


def differs(found: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> str | None:
    """None if what a choice wrote is what the present one wrote, but for the order of sums.

    Differences are of the rounding of a bfloat16: the largest, and the root of the mean of all squares.
    """
    for i, (a, b) in enumerate(zip(found, right, strict=True)):
        difference = a.double() - b.double()
        error, largest = float(difference.abs().max()), float(b.double().abs().max())
        if not error <= 2**-7 * largest:  # a NaN is never within the limit
            return f"output {i} is off by {error:.3g}, and its largest number is {largest:.3g}"
        error, size = (float(torch.linalg.vector_norm(t)) for t in (difference, b.double()))
        if not error <= 2**-9 * size:
            return f"output {i} is off by {error / size:.3g} of its norm"
    return None


def run_poisoned(launch: Launch, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What a launch writes into outputs full of NaN."""
    for out in outputs:
        out.fill_(float("nan"))
    launch()
    return [out.clone() for out in outputs]


def as_case(kernel: Kernel) -> Case:
    """The present choice against each other one, each behind the gate of the op that runs it with that choice.

    What it writes at the shapes that are timed must then be what the present one writes.
    """
    now = kernel.launch(kernel.choices[0])
    peers = {describe(choice): kernel.launch(choice) for choice in kernel.choices[1:]}

    def gate(choice: Any) -> str | None:
        with kernel.using(choice):
            problem = kernel.gate()
        launch = kernel.launch(choice)
        return problem or differs(run_poisoned(launch, kernel.outputs), run_poisoned(now, kernel.outputs))

    return Case(
        "tune", kernel.name, describe(kernel.choices[0]), now, peers,
        gate=kernel.gate,
        bytes_moved=kernel.bytes_moved, flops=kernel.flops,
        peer_gates={describe(choice): functools.partial(gate, choice) for choice in kernel.choices[1:]},
    )  # fmt: skip


def report_compiled(kernel: Kernel) -> None:
    """A line for each choice: what the compiler says of it for sm_90."""
    for choice in kernel.choices:
        made = compile_launch(kernel.launch(choice), ARCH)
        mark = "now" if choice == kernel.choices[0] else ""
        print(f"{kernel.name:21} {mark:4}{describe(choice):72} {as_text(made)}", flush=True)


def as_text(made: Compiled) -> str:
    text = f"{made.registers:4} registers {made.shared:7} bytes shared {made.programs} programs"
    if made.shared > SHARED_LIMIT[ARCH]:
        return f"{text}, does not fit"
    text = f"{text}, spills {made.stack} bytes" if made.stack else text
    return f"{text}, HAZARD: {made.hazards[0]}" if made.hazards else text


def summary(found: Sequence[tuple[str, Comparison]]) -> list[str]:
    """A line for each kernel: the choice to take in place of the present one, or that there is none.

    Args:
        found: kernel and comparison of the present choice with another, in any order.
    """
    lines = []
    for kernel in dict.fromkeys(kernel for kernel, _ in found):
        pairs = [pair for name, pair in found if name == kernel and pair.theirs and pair.ratio and pair.ratio_p80]
        better = [pair for pair in pairs if (pair.ratio_p80 or 1.0) <= 1 - MARGIN]
        if not better:
            lines.append(f"{kernel}: keep the present one of {len(pairs) + 1}")
            continue
        best = min(better, key=lambda pair: pair.ratio or 1.0)
        assert best.theirs is not None
        assert best.ratio is not None
        times = f"{best.ours.median:.3f} -> {best.theirs.median:.3f} ms"
        lines.append(f"{kernel}: take {best.peer}: {times}, {1 / best.ratio:.3f} x as fast ({PLACES[kernel]})")
    return lines


def main(arguments: Sequence[str]) -> None:
    if importlib.util.find_spec("triton") is None:
        raise InputError("triton is not installed, and these are its kernels: pip install -r requirements.txt")
    names = [kernel.name for kernel in kernels(Shapes(), torch.device("meta"))]
    parser = Parser(
        prog="python -m benchmarks tune",
        description="Time launch parameters of the kernels against those that are chosen now, on the seed's shapes. "
        "Without a GPU, or with --compile: say what the compiler makes of each for sm_90.",
    )
    parser.add_argument("--kernel", choices=names, action="append", help="only this one (may be repeated)")
    parser.add_argument("--window", type=int, default=Shapes.window, help="of attention (default: full, 2048)")
    parser.add_argument("--compile", action="store_true", help="compile only, also where there is a GPU")
    parser.add_argument("--json", action="store_true", help="print JSON lines in place of a table")
    options = parser.parse_args(arguments)
    if options.window < 1:
        raise InputError(f"--window is {options.window}: it must be at least 1")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise InputError("TRITON_INTERPRET is 1, and the interpreter compiles nothing: unset it")
    shapes = Shapes(window=options.window)
    on_gpu = torch.cuda.is_available() and not options.compile
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("meta")
    wanted = (kernel for kernel in kernels(shapes, device) if options.kernel is None or kernel.name in options.kernel)
    if not on_gpu:
        print("compiled for sm_90, nothing is timed", file=sys.stderr)
        for kernel in wanted:
            report_compiled(kernel)
        return
    options = argparse.Namespace(peer=None, implementation=None, list=False, json=options.json)
    found: list[tuple[str, Comparison]] = []
    with measuring("cuda") as (compare, conditions):

        def noting(case: Case, peer: str) -> Comparison:
            found.append((case.label, compare(case, peer)))
            return found[-1][1]

        try:
            good = measure_cases(map(as_case, wanted), options, noting, conditions)
        finally:  # also of what was cut off
            if not options.json:
                print("\n".join(summary(found)), flush=True)
    if not good:
        sys.exit("wrong results, so no times")
