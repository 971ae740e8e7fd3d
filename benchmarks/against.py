"""Compares a training step on a CPU with that of another commit or backend: `python -m benchmarks against c7481ff`.

Each side is a process with its own checkout. They take the same steps on the same tokens alternately, so that both are
affected by the same disturbances; their losses must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from golf_fast import json_files
from golf_fast.arguments import Parser
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).parent / "against_worker.py"
SEQUENCE = 20
"""Interval in steps at which the mean losses of both sides are compared."""


class Side:
    """One side of the comparison: a process that takes a training step on request.

    Args:
        name: name of the side.
        checkout: folder of the golf_fast that it runs.
        recipe: recipe that it trains.
        threads: number of threads of PyTorch.
        backends: value of GOLF_FAST_BACKENDS; None: unchanged.
    """

    def __init__(self, name: str, checkout: Path, recipe: str, threads: int, backends: str | None = None) -> None:
        self.name = name
        self.steps: list[dict[str, float]] = []
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        if backends is not None:
            environment["GOLF_FAST_BACKENDS"] = backends
        command = [sys.executable, str(WORKER), recipe, str(threads)]
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(self) -> dict[str, Any]:
        """The next line of the process.

        Raises:
            InputError: the process has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise InputError(f"{self.name}: its process ended with {self.process.wait()}; its message is above")
        answered: dict[str, Any] = json_files.parse(line, self.name)
        return answered

    def step(self) -> None:
        """Take a step, and record its times and loss."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.steps.append(self.answer())

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def main(arguments: Sequence[str]) -> None:
    options = _parse(arguments)
    with contextlib.ExitStack() as stack:
        theirs, backends = ROOT, options.other
        if options.other != "reference":
            theirs, backends = stack.enter_context(checkout_of(options.other)), None
        sides = [
            Side("ours", ROOT, options.recipe, options.threads),
            Side(options.other, theirs, options.recipe, options.threads, backends),
        ]
        for side in sides:
            stack.callback(side.close)
        for side in sides:
            side.answer()
        for _ in range(options.warmup + options.steps):
            for side in sides:
                side.step()
    row = compared(options, *(side.steps for side in sides)) | results.environment("cpu")
    results.append(row)
    print(json.dumps(row) if options.json else as_text(row))
    if row["loss_difference"] > options.tolerance:
        raise InputError(
            f"the losses differ by up to {row['loss_difference']:.5f} nats, and --tolerance is {options.tolerance:g}: "
            "the times are not those of equal work"
        )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks against",
        description="Training steps on a CPU in turns with those of another commit, in two processes.",
    )
    parser.add_argument(
        "other", metavar="COMMIT", help="a commit of this repository, or: reference, the plain backends"
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="tiny", help="what is trained (default: tiny)")
    parser.add_argument("--steps", type=int, default=60, help="that are timed, of each side (default: 60)")
    parser.add_argument("--warmup", type=int, default=3, help="that are not (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument(
        "--tolerance", type=float, default=5e-3, metavar="NATS", help="of mean losses over 20 steps (default: 0.005)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line in place of text")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    for name, least in (("steps", 1), ("warmup", 0), ("threads", 1)):
        if getattr(options, name) < least:
            raise InputError(f"--{name} is {getattr(options, name)}: it must be at least {least}")
    return options


@contextlib.contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """A temporary folder with the files and the extension of a commit.

    Raises:
        InputError: git does not know the commit.
    """
    with tempfile.TemporaryDirectory(prefix="golf_fast_") as folder:
        packed = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "--"], capture_output=True, check=False)
        if packed.returncode:
            raise InputError(f"{commit}: {packed.stderr.decode(errors='replace').strip().splitlines()[-1]}")
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        build = [sys.executable, "setup.py", "build_ext", "--inplace"]
        environment = os.environ | {"GOLF_FAST_CUDA": "0"}
        built = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if built.returncode:
            raise InputError(f"{commit}: its extension was not built: {built.stderr.strip().splitlines()[-1]}")
        yield Path(folder)


def compared(
    options: argparse.Namespace, ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """The recorded result: medians in milliseconds, and the ratio of ours to theirs over the pairs."""
    row: dict[str, Any] = {
        "op": "against",
        "other": options.other,
        "recipe": options.recipe,
        "threads": options.threads,
        "steps": options.steps,
    }
    for clock in ("wall", "cpu"):
        pairs = [(a[clock], b[clock]) for a, b in zip(ours[options.warmup :], theirs[options.warmup :], strict=True)]
        row[f"{clock}_ms"] = statistics.median(a for a, _ in pairs) * 1e3
        row[f"{clock}_ms_other"] = statistics.median(b for _, b in pairs) * 1e3
        row[f"{clock}_ratio"] = statistics.median(a / b for a, b in pairs)
    losses = [[step["loss"] for step in side] for side in (ours, theirs)]
    means = [[statistics.fmean(side[at : at + SEQUENCE]) for at in range(0, len(side), SEQUENCE)] for side in losses]
    row["loss"], row["loss_other"] = losses[0][-1], losses[1][-1]
    difference = max(abs(a - b) for a, b in zip(*means, strict=True))
    row["loss_difference"] = difference if math.isfinite(difference) else math.inf
    return row


def as_text(row: dict[str, Any]) -> str:
    """The row as a text for people."""
    lines = [f"a step of {row['recipe']}, {row['threads']} threads, {row['steps']} pairs of steps in turns"]
    for clock, what in (("wall", "wall clock"), ("cpu", "time of the process on the CPU")):
        lines.append(
            f"{what}: {row[f'{clock}_ms']:.1f} ms, {row['other']} {row[f'{clock}_ms_other']:.1f} ms; "
            f"median of the pairs' ratios {row[f'{clock}_ratio']:.3f}"
        )
    lines.append(
        f"last loss {row['loss']:.4f} and {row['loss_other']:.4f}; means of {SEQUENCE} steps differ by at most "
        f"{row['loss_difference']:.5f}"
    )
    return "\n".join(lines)
