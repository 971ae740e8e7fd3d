"""One training micro-step against its roofline: `python -m benchmarks step --recipe seed`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.measure import Timing, compare_on_cpu, milliseconds, one_core
from benchmarks.measure_gpu import Stopwatch, ceilings, compare_on_gpu
from benchmarks.ops.registry import Case
from benchmarks.step import gate as step_gate
from benchmarks.step import record_script, roofline
from benchmarks.step.parts import Milliseconds, fill, parts, time_passes, time_work
from benchmarks.step.roofline import Ceilings, Shapes
from benchmarks.step.text import as_text
from golf_fast import machine
from golf_fast.config import RunConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.ops import backends
from golf_fast.recipes import RECIPES
from golf_fast.train.averages import Averages
from golf_fast.train.optimizer import Optimizer

ROUNDS = {"cuda": 21, "cpu": 5}
CPU_TERAFLOP = 2.0
"""A CPU is not asked for a longer micro-step: it would take minutes a round."""
CPU_PRODUCT, CPU_COPY_BYTES = 1024, 64 << 20
SAME_LOSS = 0.003
"""Models with the same weights are taken for the same function if their losses differ by less than this share."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks step",
        description="Time one training micro-step by part, against floors from the ceilings measured in the same run.",
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="seed", help="whose shapes (default: seed)")
    parser.add_argument("--tokens", type=int, help="of the micro-batch (default: the recipe's)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, help="samples of each time (default: 21 on a GPU, 5 on a CPU)")
    parser.add_argument(
        "--kernels", type=int, default=0, metavar="N", help="also list the N longest kernels of the step"
    )
    parser.add_argument(
        "--upstream",
        type=Path,
        metavar="PATH",
        help="also time the model of a published record script on the same tokens. The file is EXECUTED, with your "
        "rights and under a name other than __main__: name one that you have read and trust",
    )
    parser.add_argument("--json", action="store_true", help="print the measurement as one JSON line")
    options = parser.parse_args(arguments)
    config = RECIPES[options.recipe]()
    device, _ = machine.choose_device(options.device)
    tokens = options.tokens or config.train.batch_tokens // config.train.micro_batches
    _check(options, config, tokens)
    row = _on_cpu(options, config, tokens) if device.type == "cpu" else measure(options, config, tokens, device)
    results.append(row)
    print(json.dumps(row) if options.json else as_text(row))


def _check(options: argparse.Namespace, config: RunConfig, tokens: int) -> None:
    length = config.train.seq_len
    if tokens <= 0 or tokens % length:
        raise InputError(f"--tokens is {tokens}: it must be a multiple of the recipe's rows of {length}")
    if options.rounds is not None and options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}: it must be at least 1")
    if options.upstream is not None and not options.upstream.is_file():
        raise InputError(f"--upstream {options.upstream}: there is no such file; name a record script's train_gpt.py")


def _on_cpu(options: argparse.Namespace, config: RunConfig, tokens: int) -> dict[str, Any]:
    work = _flops(Shapes(config.model, tokens // config.train.seq_len, config.train.seq_len, 4)) / 1e12
    if work > CPU_TERAFLOP:
        raise InputError(
            f"--tokens is {tokens}: {work:.1f} TFLOP a micro-step are too many for a CPU (limit {CPU_TERAFLOP:g}), and "
            "torch sees no GPU or --device is cpu; run it on a GPU, or try --recipe tiny --tokens 2048"
        )
    with one_core():
        return measure(options, config, tokens, torch.device("cpu"))


def _flops(shapes: Shapes) -> float:
    return sum(
        piece.flops
        for way in (roofline.forward(shapes), roofline.backward(shapes))
        for pieces in way.values()
        for piece in pieces
    )


def measure(options: argparse.Namespace, config: RunConfig, tokens: int, device: torch.device) -> dict[str, Any]:
    """Everything about a micro-step of `tokens` tokens, as plain values; times in milliseconds.

    Raises:
        InputError: the model computes something wrong here (then no time is reported), or the record script fails.
    """
    on_gpu = device.type == "cuda"
    dtype, _ = machine.choose_compute_dtype(config.train.compute_dtype, device)
    tables = dtype if config.train.embedding_dtype == "compute" else torch.float32
    model = GPT(config.model, compute_dtype=dtype, embedding_dtype=tables, seed=config.seed)
    fill(model)
    model.to(device)
    rows, length = tokens // config.train.seq_len, config.train.seq_len
    ids = torch.randint(config.model.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(2))
    x, y = (t.contiguous().to(device) for t in (ids[:, :-1], ids[:, 1:]))
    compiled = compiles(config.train.compile, device.type)
    loss: Loss = torch.compile(model, dynamic=False) if compiled else model
    if wrong := step_gate.wrong(model, loss, x, y):
        raise InputError(f"no times, for the model computes something wrong on {device}: {wrong}")

    stopwatch = Stopwatch() if on_gpu else None
    watch: Milliseconds = stopwatch.milliseconds if stopwatch else milliseconds
    rounds = options.rounds or ROUNDS[device.type]
    measured = ceilings(stopwatch) if stopwatch else _cpu_ceilings(dtype, rounds)
    at = Ceilings(measured["ceiling_teraflops"], measured["ceiling_gigabytes_per_second"])
    shapes = Shapes(config.model, rows, length, dtype.itemsize)
    step = _step_of(model, loss, x, y)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    ahead, back = time_passes(loss, (x, y), list(model.parameters()), watch, rounds)
    whole = time_work(step, watch, rounds)
    peak = machine.peak_memory_bytes(device)
    update = _optimizer(model, config, at, watch, rounds)
    row: dict[str, Any] = {
        "op": "step",
        "recipe": config.recipe,
        "tokens": tokens,
        "seq_len": length,
        "dtype": machine.dtype_name(dtype),
        "compiled": compiled,
        "rounds": rounds,
        "backends": {op: backend.name for op, backend in backends.describe(device)},
        "micro_step": dataclasses.asdict(whole),
        "forward": dataclasses.asdict(ahead),
        "backward": dataclasses.asdict(back),
        "teraflop": _flops(shapes) / 1e12,
        "parts": _parts(model, x, y, shapes, at, watch, rounds, compiled),
        "optimizer": update,
        "projected_devices": config.train.micro_batches,
        "projected_step": whole.median + sum(part["ms"]["median"] for part in update),
        "kernels": _kernels(step, device, options.kernels),
        "upstream": _upstream(options.upstream, model, loss, x, y) if options.upstream else None,
        "peak_memory_bytes": peak,
    }
    return {**row, **results.environment(device.type), **measured}


def _cpu_ceilings(dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """What `measure_gpu.ceilings` measures, at a CPU's sizes, on as many threads as torch has now."""
    n = CPU_PRODUCT
    a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    source = torch.randint(256, (CPU_COPY_BYTES,), dtype=torch.uint8)
    target = torch.empty_like(source)
    product = time_work(lambda: torch.mm(a, b), milliseconds, rounds).median
    copy = time_work(lambda: target.copy_(source), milliseconds, rounds).median
    return {
        "ceiling_teraflops": 2 * n**3 / product / 1e9,
        "ceiling_gigabytes_per_second": 2 * CPU_COPY_BYTES / copy / 1e6,
        "clocks": None,
    }


def _step_of(model: torch.nn.Module, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    """Forward and backward as the trainer does them; leaves gradients."""
    parameters = list(model.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(loss(x, y))

    return run


def _against(found: Timing, pieces: list[roofline.Work], at: Ceilings, times: int = 1) -> dict[str, Any]:
    """A time for all layers, its floor, and how many times the floor it is."""
    scaled = {name: times * value for name, value in dataclasses.asdict(found).items()}
    floor = roofline.floor_ms(pieces, at)
    return {"ms": scaled, "floor": floor, "times_floor": scaled["median"] / floor if floor else None}


def _parts(
    model: GPT,
    x: torch.Tensor,
    y: torch.Tensor,
    shapes: Shapes,
    at: Ceilings,
    watch: Milliseconds,
    rounds: int,
    compiled: bool,
) -> list[dict[str, Any]]:
    forward, backward = roofline.forward(shapes), roofline.backward(shapes)
    found = []
    for part in parts(model, x, y):
        function = torch.compile(part.function, dynamic=False) if compiled else part.function
        ahead, back = time_passes(function, part.inputs, part.inputs, watch, rounds)
        found.append(
            {
                "name": part.name,
                "times": part.times,
                "forward": _against(ahead, forward[part.name], at, part.times),
                "backward": _against(back, backward[part.name], at, part.times),
                "pieces": [
                    {"name": piece.name, "pass": way, "floor": piece.floor_ms(at)}
                    for way, pieces in (("forward", forward), ("backward", backward))
                    for piece in pieces[part.name]
                ],
            }
        )
    return found


def _optimizer(model: GPT, config: RunConfig, at: Ceilings, watch: Milliseconds, rounds: int) -> list[dict[str, Any]]:
    """The parts of an update, on one device and at rates of zero: the same work, and the weights stay.

    The model must have gradients.
    """
    train = config.train
    optimizer = Optimizer(model, train, Ranks.single(model.tok_emb.device))
    averages = Averages(model, train)
    banks = optimizer.muon.banks
    updated_by_muon = {id(bank) for bank in banks}
    others = sum(p.nbytes for p in optimizer.parameters if id(p) not in updated_by_muon)
    floors = roofline.optimizer(
        [tuple(bank.shape) for bank in banks], others, train, optimizer.muon.dtype.itemsize, average=train.ema
    )
    work: dict[str, Callable[[], object]] = {
        "clip": optimizer._clip,
        "Muon": lambda: optimizer.muon.step(0.0, train.muon_momentum),
        "AdamW": optimizer.adamw.step,
        "average": lambda: averages.update(train.ema_start_step, 1.0),
    }
    return [
        {"name": name, **_against(time_work(work[name], watch, rounds), pieces, at)} for name, pieces in floors.items()
    ]


def _kernels(step: Callable[[], object], device: torch.device, count: int) -> list[dict[str, Any]]:
    """The kernels (on a CPU: operators) that one micro-step spends the most time in, and the sum of all as "all"."""
    if count <= 0:
        return []
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    on_gpu = device.type == "cuda"
    events = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in profile.key_averages()
        if not on_gpu or event.device_type.name == "CUDA"
    ]
    longest = sorted(events, reverse=True)[:count]
    rows = [{"name": name, "ms": time / 1e3, "calls": calls} for time, calls, name in longest]
    return [*rows, {"name": "all", "ms": sum(e[0] for e in events) / 1e3, "calls": sum(e[1] for e in events)}]


def _upstream(path: Path, model: GPT, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """The record script's model beside ours: forward and backward on the same tokens, in turns."""
    device, dtype = x.device, model.compute_dtype
    built = record_script.build(record_script.load(path), model, device, dtype, path)
    theirs, lines = built.model, built.notes
    own = torch.compile(theirs, dynamic=False) if device.type == "cuda" else theirs

    def their_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            found: torch.Tensor = own(x, y)
        return found

    ours, their_step = _step_of(model, loss, x, y), _step_of(theirs, their_loss, x, y)
    try:
        losses = [float(loss(x, y).detach()), float(their_loss(x, y).detach())]
        their_step()
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"--upstream {path}: a step fails: {type(error).__name__}: {first_line}; GPT(tokens, targets) must return "
            "the mean loss"
        ) from error
    same = built.same_weights and math.isclose(*losses, rel_tol=SAME_LOSS)
    if not same:
        lines.append(f"its loss is {losses[1]:.4f}, ours {losses[0]:.4f}: it is another function, so there is no ratio")
    for line in lines:
        print(f"upstream: {line}", file=sys.stderr)
    case = Case("step", "micro-step", "", ours, {"upstream": their_step}, lambda: None)
    found = compare_on_gpu(case, "upstream", Stopwatch()) if device.type == "cuda" else compare_on_cpu(case, "upstream")
    row = dataclasses.asdict(found)
    if not same:
        row |= {"ratio": None, "ratio_p20": None, "ratio_p80": None}
    return {"file": path.name, "losses": losses, "notes": lines, **row}
