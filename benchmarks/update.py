"""`python -m benchmarks update`: what the update of a step takes, spread over the ranks and in plain form.

The plain form is written here: every gradient is averaged on every rank, then clipped, every rank keeps all of the
momentum, and banks are orthogonalized and gathered one after the other. Both move equal weights with equal gradients
and take turns within a round, so ratios are within rounds; there are no times where their weights differ.

On a CPU it starts the ranks itself (`--ranks 1 2`); under torchrun it is one of them:

    torchrun --standalone --nproc-per-node=8 -m benchmarks update --recipe seed
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import results
from benchmarks.launches import launches
from benchmarks.measure import timing
from golf_fast import json_files, machine, ops
from golf_fast.arguments import Parser
from golf_fast.config import RunConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.recipes import RECIPES
from golf_fast.report import table
from golf_fast.train import Optimizer, Rates

RATES = Rates(1.0, 0.95)
SEED = 42


def main(arguments: list[str]) -> None:
    parser = Parser(
        prog="python -m benchmarks update", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="whose model (default: tiny, or on a GPU seed)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="on a CPU (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each time (default: 15)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON lines")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    for name, value in (("rounds", options.rounds), *(("ranks", ranks) for ranks in options.ranks)):
        if value < 1:
            raise InputError(f"--{name} is {value}: it must be at least 1")
    device, _ = machine.choose_device(options.device)
    recipe = RECIPES[options.recipe or ("tiny" if device.type == "cpu" else "seed")]()
    rows = _as_rank(recipe, options, device) if "RANK" in os.environ else _all(recipe, options, device, arguments)
    if options.json:
        for row in rows:
            print(json.dumps(row), flush=True)
    elif rows:
        heads = ["ranks", "way", "milliseconds", "times the plain", "launches", "momentum bytes a rank"]
        print(table(heads, [_line(row) for row in rows]), flush=True)


def _line(row: dict[str, Any]) -> list[object]:
    median, momentum = row["milliseconds"]["median"], row["momentum_bytes"]
    return [row["ranks"], row["way"], f"{median:.2f}", f"{row['speedup']:.2f}", row["launches"], f"{momentum:,}"]


def _all(
    recipe: RunConfig, options: argparse.Namespace, device: torch.device, arguments: list[str]
) -> list[dict[str, Any]]:
    """The rows of this process, and of each number of ranks that it starts; those write theirs themselves."""
    rows = []
    for ranks in options.ranks if device.type == "cpu" else [1]:
        if ranks == 1:
            rows += _measure(recipe, options, Ranks.single(device))
            continue
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "benchmarks"]
        flags = [*arguments, "--device=cpu", "--json"]
        found = subprocess.run(
            [sys.executable, *launch, "update", *flags],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows += [json_files.parse(line, "a rank") for line in found.stdout.splitlines() if line.startswith("{")]
    return rows


def _as_rank(recipe: RunConfig, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    with Ranks.from_environment(device.type) as ranks:
        return _measure(recipe, options, ranks)


def _measure(recipe: RunConfig, options: argparse.Namespace, ranks: Ranks) -> list[dict[str, Any]]:
    """A row of plain values for each way; on other ranks than the first none.

    Raises:
        InputError: the ways move the weights differently, so there are no times.
    """
    torch.set_num_threads(1)
    ways: dict[str, _Way] = {name: way(recipe, ranks) for name, way in WAYS.items()}
    for step in range(2):
        for way in ways.values():
            way.run(step)
    _require_same(ways)
    samples = np.array(
        [[_milliseconds(way, step, ranks) for way in ways.values()] for step in range(2, 2 + options.rounds)]
    )
    around = results.environment(ranks.device.type)
    rows = [
        {
            "op": "update",
            "way": name,
            "recipe": recipe.recipe,
            "ranks": ranks.world_size,
            "dtype": machine.dtype_name(way.model.compute_dtype),
            "milliseconds": dataclasses.asdict(timing(samples[:, i])),
            "speedup": float(np.median(samples[:, 0] / samples[:, i])),
            "launches": way.launches(),
            "momentum_bytes": way.momentum_bytes,
            "rounds": options.rounds,
            **around,
        }
        for i, (name, way) in enumerate(ways.items())
    ]
    for row in rows if ranks.main else []:
        results.append(row)
    return rows if ranks.main else []


def _milliseconds(way: _Way, step: int, ranks: Ranks) -> float:
    way.give_gradients(step)
    _wait(ranks)
    start = time.perf_counter()
    way.update()
    _wait(ranks)
    return ranks.broadcast_float((time.perf_counter() - start) * 1e3)


def _wait(ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    ranks.barrier()


@torch.no_grad()
def _require_same(ways: dict[str, _Way]) -> None:
    first, *others = ways.values()
    for other in others:
        for (name, expected), found in zip(first.model.named_parameters(), other.model.parameters(), strict=True):
            error = float((found.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-3))
            if not error < 2e-2:
                raise InputError(f"no times: {name} of the ways differs by {error:.2g} of its norm")


class _Way:
    """A model, and one way of updating it."""

    def __init__(self, recipe: RunConfig, ranks: Ranks) -> None:
        dtype, _ = machine.choose_compute_dtype("auto", ranks.device)
        tables = dtype if recipe.train.embedding_dtype == "compute" else torch.float32
        self.ranks, self.config = ranks, recipe.train
        self.model = GPT(recipe.model, compute_dtype=dtype, embedding_dtype=tables, seed=SEED).to(ranks.device)

    def give_gradients(self, step: int) -> None:
        """What a backward leaves, different on each rank and the same for each way."""
        generator = torch.Generator(self.ranks.device).manual_seed(step * self.ranks.world_size + self.ranks.rank)
        for parameter in self.model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, device=self.ranks.device)
            parameter.grad = drawn.mul_(1e-3 * self.scale).to(parameter.dtype)

    def run(self, step: int) -> None:
        self.give_gradients(step)
        self.update()

    scale = 1.0
    """Of the loss whose gradients a backward leaves."""
    momentum_bytes: int

    def update(self) -> None:
        raise NotImplementedError

    def launches(self) -> int:
        """Kernels besides the matrix products on a GPU, as counted by `benchmarks.launches`."""
        self.give_gradients(0)
        return launches(self.update)


class Sharded(_Way):
    """The trainer's."""

    def __init__(self, recipe: RunConfig, ranks: Ranks) -> None:
        super().__init__(recipe, ranks)
        self.optimizer = Optimizer(self.model, self.config, ranks)
        self.scale = 1 / ranks.world_size
        self.loss = torch.ones((), device=ranks.device)
        self.momentum_bytes = self.optimizer.muon.momentum.nbytes

    def update(self) -> None:
        self.optimizer.step(RATES, self.loss)

    def launches(self) -> int:
        before, self.optimizer.reads_at_once = self.optimizer.reads_at_once, False
        super().launches()  # the first update makes what the others find
        found = super().launches()
        self.optimizer.reads_at_once = before
        return found


class Plain(_Way):
    """Everything on every rank, one thing after the other."""

    def __init__(self, recipe: RunConfig, ranks: Ranks) -> None:
        super().__init__(recipe, ranks)
        c = self.config
        rows = self.model.claimed("the benchmark")
        self.banks = [parameter for row, parameter in rows if row.role == "matrix"]
        self.momentum = [torch.zeros_like(bank) for bank in self.banks]
        self.momentum_bytes = sum(velocity.nbytes for velocity in self.momentum)
        tables = [parameter for row, parameter in rows if row.role == "table"]
        vectors = [parameter for row, parameter in rows if row.role == "vector"]
        self.adamw = torch.optim.AdamW(
            [{"params": tables, "lr": c.tied_embed_lr}, {"params": vectors, "lr": c.scalar_lr}],
            betas=(c.beta1, c.beta2),
            eps=c.adam_eps,
            weight_decay=c.weight_decay,
            fused=True,
        )

    @torch.no_grad()
    def update(self) -> None:
        c = self.config
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self.ranks.all_mean_(gradients)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))
        torch._foreach_mul_(gradients, (c.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        for bank, velocity in zip(self.banks, self.momentum, strict=True):
            assert bank.grad is not None
            velocity.mul_(RATES.momentum).add_(bank.grad)
            direction = bank.grad.add(velocity, alpha=RATES.momentum).view(-1, *bank.shape[-2:])
            stretch = math.sqrt(max(1.0, bank.shape[-2] / bank.shape[-1]))
            bank.mul_(1 - c.matrix_lr * c.muon_weight_decay)
            bank.add_(self._orthogonalized(direction).view_as(bank), alpha=-c.matrix_lr * stretch)
        self.adamw.step()

    def _orthogonalized(self, bank: torch.Tensor) -> torch.Tensor:
        ranks, c, dtype = self.ranks, self.config, self.model.compute_dtype
        share = math.ceil(len(bank) / ranks.world_size)
        padded = bank.new_zeros((share * ranks.world_size, *bank.shape[1:]), dtype=dtype)
        padded[: len(bank)] = bank
        own = padded[ranks.rank * share : (ranks.rank + 1) * share]
        own = ops.newton_schulz(own, c.muon_iterations, dtype, c.muon_coefficients)
        return ranks.all_gather_into(torch.empty_like(padded), own.contiguous())[: len(bank)]


WAYS: dict[str, Callable[[RunConfig, Ranks], _Way]] = {"plain": Plain, "sharded": Sharded}
