"""A micro-step of a recipe's model: made, checked, and timed by section."""

from __future__ import annotations

import dataclasses
import math
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.measure import Timing, compare_on_cpu, milliseconds
from benchmarks.measure_gpu import Stopwatch, ceilings, compare_on_gpu, host_milliseconds
from benchmarks.ops.registry import Case
from benchmarks.step import gate, record_script, roofline
from benchmarks.step.parts import Milliseconds, fill, parts, time_passes, time_work
from benchmarks.step.roofline import Ceilings, Shapes
from golf_fast import machine
from golf_fast.config import RunConfig, compiles
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.ops import backends
from golf_fast.train.averages import Averages
from golf_fast.train.optimizer import Optimizer

ROUNDS = {"cuda": 21, "cpu": 5}
CPU_PRODUCT, CPU_COPY_BYTES = 1024, 64 << 20
SAME_LOSS = 0.003
"""Models with the same weights are taken for the same function if their losses differ by less than this share."""

Loss = Callable[..., torch.Tensor]
Row = dict[str, Any]


def graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0


@contextmanager
def compiling_nothing(what: str, problems: list[str] | None = None) -> Iterator[None]:
    """Raise an InputError if anything is compiled inside: then what is timed is not what was checked.

    With `problems` say it there instead.
    """
    before = graphs()
    yield
    if graphs() == before:
        return
    if problems is None:
        raise InputError(f"no time of {what}: it was compiled again while it was timed")
    problems.append(f"{what} was compiled again while it was timed")


class MicroStep:
    """Forward and backward of a recipe's model on random tokens, compiled where training compiles it.

    Args:
        config: the recipe.
        tokens: number of tokens of the micro-batch, a multiple of the row length of the recipe.
        device: device to measure on.
        rounds: number of samples of each time; None: `ROUNDS`.
        problems: list to which reasons to doubt the times are added; None: such a reason is an error.
    """

    def __init__(
        self,
        config: RunConfig,
        tokens: int,
        device: torch.device,
        rounds: int | None,
        problems: list[str] | None = None,
    ) -> None:
        self.problems = problems
        train = config.train
        dtype, _ = machine.choose_compute_dtype(train.compute_dtype, device)
        tables = dtype if train.embedding_dtype == "compute" else torch.float32
        self.config, self.device, self.dtype = config, device, dtype
        self.model = GPT(config.model, compute_dtype=dtype, embedding_dtype=tables, seed=config.seed)
        fill(self.model)
        self.model.to(device)
        rows, length = tokens // train.seq_len, train.seq_len
        ids = torch.randint(config.model.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(2))
        self.x, self.y = (t.contiguous().to(device) for t in (ids[:, :-1], ids[:, 1:]))
        self.compiled = compiles(train.compile, device.type)
        self.loss: Loss = torch.compile(self.model, dynamic=False) if self.compiled else self.model
        self.stopwatch = Stopwatch() if device.type == "cuda" else None
        self.watch: Milliseconds = self.stopwatch.milliseconds if self.stopwatch else milliseconds
        self.rounds = rounds or ROUNDS[device.type]
        self.shapes = Shapes(config.model, rows, length, dtype.itemsize)
        self.micro = gate.as_trained(config.model, self.x, self.y)
        self.run = _step_of(self.model, self.loss, self.micro)

    def wrong(self) -> str | None:
        """None if the model computes losses and gradients right here, else what is wrong (see `gate.wrong`)."""
        return gate.wrong(self.model, self.loss, self.x, self.y)

    def conditions(self) -> Row:
        """What every row of this run has; measures the ceilings."""
        found = ceilings(self.stopwatch) if self.stopwatch else _cpu_ceilings(self.dtype, self.rounds)
        self.at = Ceilings(found["ceiling_teraflops"], found["ceiling_gigabytes_per_second"])
        floors = [
            sum(roofline.floor_ms(pieces, self.at) for pieces in way.values())
            for way in (roofline.forward(self.shapes), roofline.backward(self.shapes))
        ]
        return {
            "op": "step",
            "run": uuid.uuid4().hex[:12],
            "recipe": self.config.recipe,
            "tokens": self.x.numel(),
            "seq_len": self.x.shape[1],
            "dtype": machine.dtype_name(self.dtype),
            "compiled": self.compiled,
            "rounds": self.rounds,
            "backends": {op: backend.name for op, backend in backends.describe(self.device)},
            "teraflop": roofline.flops(self.shapes) / 1e12,
            "floors": floors,
            "updates": ["clip", "Muon", "AdamW", *(["average"] if self.config.train.ema else [])],
            "projected_devices": self.config.train.micro_batches,
            **results.environment(self.device.type),
            **found,
        }

    def whole(self) -> Iterator[Row]:
        """The micro-step, its forward and its backward, what the host takes to queue it, and the memory."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        with compiling_nothing("the micro-step", self.problems):
            whole = time_work(self.run, self.watch, self.rounds)
            # What follows can fail; this is the number that a person came for.
            print(f"micro-step: {whole.median:.4g} ms", file=sys.stderr, flush=True)
            ahead, back = time_passes(self.loss, self.micro, list(self.model.parameters()), self.watch, self.rounds)
        yield {
            "section": "whole",
            "micro_step": dataclasses.asdict(whole),
            "forward": dataclasses.asdict(ahead),
            "backward": dataclasses.asdict(back),
            "host_ms": host_milliseconds(self.run) if on_gpu else None,
            "peak_memory_bytes": machine.peak_memory_bytes(self.device),
        }

    def parts(self) -> Iterator[Row]:
        """Each part by itself, for all of its layers."""
        forward, backward = roofline.forward(self.shapes), roofline.backward(self.shapes)
        for part in parts(self.model, self.x, self.y):
            function = torch.compile(part.function, dynamic=False) if self.compiled else part.function
            ahead, back = time_passes(function, part.inputs, part.inputs, self.watch, self.rounds)
            pieces = [
                {"name": piece.name, "pass": way, "floor": piece.floor_ms(self.at)}
                for way, found in (("forward", forward), ("backward", backward))
                for piece in found[part.name]
            ]
            found = {
                "name": part.name,
                "times": part.times,
                "forward": _against(ahead, forward[part.name], self.at, part.times),
                "backward": _against(back, backward[part.name], self.at, part.times),
                "pieces": pieces,
            }
            yield {"section": "part", "part": found}

    def update(self) -> Iterator[Row]:
        """The parts of an update, on one device and at rates of zero: the same work, and the weights stay."""
        self.run()  # leaves gradients
        for name, work, pieces in update_of(self.model, self.config):
            found = {"name": name, **_against(time_work(work, self.watch, self.rounds), pieces, self.at)}
            found["host_ms"] = host_milliseconds(work) if self.device.type == "cuda" else None
            yield {"section": "update", "update": found}

    def kernels(self, count: int) -> Iterator[Row]:
        """The kernels (on a CPU: operators) that one micro-step spends the most time in, and the sum as "all"."""
        if count <= 0:
            return
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with compiling_nothing("the kernels", self.problems), torch.profiler.profile(activities=activities) as profile:
            self.run()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
        on_gpu = self.device.type == "cuda"
        events = [
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
            for event in profile.key_averages()
            # An annotation spans kernels that are there themselves, such as all of a compiled graph.
            if not event.is_user_annotation and (not on_gpu or event.device_type.name == "CUDA")
        ]
        longest = sorted(events, reverse=True)[:count]
        rows = [{"name": name, "ms": time / 1e3, "calls": calls} for time, calls, name in longest]
        total = {"name": "all", "ms": sum(e[0] for e in events) / 1e3, "calls": sum(e[1] for e in events)}
        yield {"section": "kernels", "kernels": [*rows, total]}

    def upstream(self, path: Path) -> Iterator[Row]:
        """The record script's model beside ours: forward and backward on the same tokens, in turns."""
        built = record_script.build(record_script.load(path), self.model, self.device, self.dtype, path)
        theirs, lines = built.model, built.notes
        own = torch.compile(theirs, dynamic=False) if self.device.type == "cuda" else theirs

        def their_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                found: torch.Tensor = own(x, y)
            return found

        their_step = _step_of(theirs, their_loss, (self.x, self.y))
        try:
            losses = [float(loss.detach()) for loss in (self.loss(*self.micro), their_loss(self.x, self.y))]
            their_step()
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"--upstream {path}: a step fails: {type(error).__name__}: {first_line}; GPT(tokens, targets) must "
                "return the mean loss"
            ) from error
        same = built.same_weights and math.isclose(*losses, rel_tol=SAME_LOSS)
        if not same:
            lines.append(
                f"its loss is {losses[1]:.4f}, ours {losses[0]:.4f}: it is another function, so there is no ratio"
            )
        for line in lines:
            print(f"upstream: {line}", file=sys.stderr)
        case = Case("step", "micro-step", "", self.run, {"upstream": their_step}, lambda: None)
        with compiling_nothing("the micro-steps side by side", self.problems):
            if self.stopwatch:
                pair = compare_on_gpu(case, "upstream", self.stopwatch)
            else:
                pair = compare_on_cpu(case, "upstream")
        row = dataclasses.asdict(pair)
        if not same:
            row |= {"ratio": None, "ratio_p20": None, "ratio_p80": None}
        yield {"section": "upstream", "upstream": {"file": path.name, "losses": losses, "notes": lines, **row}}


def update_of(model: GPT, config: RunConfig) -> list[tuple[str, Callable[[], object], list[roofline.Work]]]:
    """The name of each part of an update, what does it, and the pieces of its floor. The model must have gradients."""
    train = config.train
    optimizer = Optimizer(model, train, Ranks.single(model.tok_emb.device))
    averages = Averages(model, train)
    banks = optimizer.muon.banks
    updated_by_muon = {bank.name for bank in banks}
    others = sum(p.nbytes for name, p in optimizer.parameters.items() if name not in updated_by_muon)
    gradients = optimizer._gradients
    of_banks = gradients.sum().banks
    no_loss = torch.zeros((), device=model.tok_emb.device)
    floors = roofline.optimizer(
        [tuple(bank.weight.shape) for bank in banks], others, train, optimizer.muon.dtype.itemsize, average=train.ema
    )
    work: dict[str, Callable[[], object]] = {
        "clip": lambda: gradients.found(gradients.sum(), no_loss),
        "Muon": lambda: optimizer.muon.start(of_banks, 0.0, train.muon_momentum, None, optimizer.failed)(),
        "AdamW": lambda: optimizer.adamw.step(0.0, optimizer.ok, optimizer.failed),
        "average": lambda: averages.update(train.ema_start_step, 1.0),
    }
    return [(name, work[name], pieces) for name, pieces in floors.items()]


def _cpu_ceilings(dtype: torch.dtype, rounds: int) -> Row:
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


def _step_of(model: torch.nn.Module, loss: Loss, micro: gate.Micro) -> Callable[[], object]:
    """Forward and backward as the trainer does them; leaves gradients."""
    parameters = list(model.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(loss(*micro))

    return run


def _against(found: Timing, pieces: list[roofline.Work], at: Ceilings, times: int = 1) -> Row:
    """A time for all layers, its floor, and how many times the floor it is."""
    scaled = {name: times * value for name, value in dataclasses.asdict(found).items()}
    floor = roofline.floor_ms(pieces, at)
    return {"ms": scaled, "floor": floor, "times_floor": scaled["median"] / floor if floor else None}
