"""One training micro-step against its roofline: `python -m benchmarks step --recipe seed`."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import results
from benchmarks.measure import one_core
from benchmarks.step import roofline
from benchmarks.step.measure import MicroStep
from benchmarks.step.roofline import Shapes
from benchmarks.step.rows import merged
from benchmarks.step.text import as_text, section_line
from golf_fast import machine
from golf_fast.arguments import Parser, a_path
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES

SECTIONS = ("whole", "parts", "update", "kernels")
"""In the order in which they are measured, that of their worth."""
CPU_TERAFLOP = 2.0
"""A CPU is not asked for a longer micro-step: it would take minutes a round."""


def main(arguments: Sequence[str]) -> None:
    options = _parse(arguments)
    config = RECIPES[options.recipe]()
    device, _ = machine.choose_device(options.device)
    tokens = options.tokens or config.train.batch_tokens // config.train.micro_batches
    _check(options, config, tokens, device)
    with one_core() if device.type == "cpu" else contextlib.nullcontext():
        measured = measure(options, config, tokens, device)
    if not options.json and "whole" in options.only:
        print(as_text(measured), flush=True)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks step",
        description="Time one training micro-step by part, against floors from the ceilings measured in the same run. "
        "Each time is printed and recorded as soon as it is known.",
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="seed", help="whose shapes (default: seed)")
    parser.add_argument("--tokens", type=int, help="of the micro-batch (default: the recipe's)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, help="samples of each time (default: 21 on a GPU, 5 on a CPU)")
    parser.add_argument(
        "--only",
        type=_sections,
        default=SECTIONS,
        metavar="SECTIONS",
        help=f"what to measure, separated by commas: some of {','.join(SECTIONS)} (default: all)",
    )
    parser.add_argument(
        "--kernels", type=int, default=0, metavar="N", help="also list the N longest kernels of the step"
    )
    parser.add_argument(
        "--upstream",
        type=a_path,
        metavar="PATH",
        help="also time the model of a published record script on the same tokens. The file is EXECUTED, with your "
        "rights and under a name other than __main__: name one that you have read and trust",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="time also what computes something wrong; the rows say so, and the report leaves them out",
    )
    parser.add_argument("--json", action="store_true", help="print each time as a JSON line")
    results.add_option(parser)
    return parser.parse_args(arguments)


def _sections(text: str) -> tuple[str, ...]:
    asked = text.split(",")
    for name in asked:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is no section: they are {','.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in asked)


def _check(options: argparse.Namespace, config: RunConfig, tokens: int, device: torch.device) -> None:
    length = config.train.seq_len
    if tokens <= 0 or tokens % length:
        raise InputError(f"--tokens is {tokens}: it must be a multiple of the recipe's rows of {length}")
    if options.rounds is not None and options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}: it must be at least 1")
    if options.upstream is not None and not options.upstream.is_file():
        raise InputError(f"--upstream {options.upstream}: there is no such file; name a record script's train_gpt.py")
    if device.type == "cuda":
        return
    work = roofline.flops(Shapes(config.model, tokens // length, length, 4)) / 1e12
    if work > CPU_TERAFLOP:
        raise InputError(
            f"--tokens is {tokens}: {work:.1f} TFLOP a micro-step are too many for a CPU (limit {CPU_TERAFLOP:g}), and "
            "torch sees no GPU or --device is cpu; run it on a GPU, or try --recipe tiny --tokens 2048"
        )


def measure(options: argparse.Namespace, config: RunConfig, tokens: int, device: torch.device) -> dict[str, Any]:
    """Everything that was asked for about a micro-step of `tokens` tokens, printed and recorded as it comes.

    Returns:
        All sections as one record (see `benchmarks.step.rows.merged`); times in milliseconds.

    Raises:
        InputError: the model computes something wrong here (then no time is reported, unless `anyway`), something was
            compiled while it was timed, or the record script fails.
    """
    problems: list[str] = []
    step = MicroStep(config, tokens, device, options.rounds, problems if options.anyway else None)
    wrong = step.wrong()
    if wrong is not None:
        if not options.anyway:
            raise InputError(f"no times, for the model computes something wrong on {device}: {wrong}")
        problems.append(wrong)
    found = []
    conditions = step.conditions()
    sections = {
        "whole": step.whole,
        "parts": step.parts,
        "update": step.update,
        "kernels": lambda: step.kernels(options.kernels),
    }
    asked = [sections[name] for name in options.only]
    if options.upstream:
        asked.append(lambda: step.upstream(options.upstream))
    for section in asked:
        for measured in section():
            row = conditions | {"wrong": "; ".join(problems) or None} | measured
            results.append(row)
            found.append(row)
            print(json.dumps(row) if options.json else section_line(row), flush=True)
    return merged(found)[0]
