"""The dry run: shapes, collectives, memory and time of a run on several ranks, without running it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from golf_fast.command_line import Parsed
from golf_fast.config import RunConfig
from golf_fast.console import say
from golf_fast.data.shards import find_shards, shard_tokens
from golf_fast.errors import InputError, StoppedError
from golf_fast.model import parameters
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.rehearsal import Rehearsal, rehearse
from golf_fast.report import table
from golf_fast.report.table import Cell
from golf_fast.runs import FinishedRun

_GIB = 1 << 30


def dry_run(parsed: Parsed) -> None:
    """Simulate a step of every rank, check that their collectives match, and print the plan. Nothing is written.

    Raises:
        InputError: the configuration is inconsistent, or an op cannot be simulated without data.
        StoppedError: the collectives of two ranks differ.
    """
    config = replace(parsed.config, train=replace(parsed.config.train, dry_run=False))
    world_size = parsed.config.train.dry_run_ranks
    if os.environ.get("RANK", "0") != "0":  # every rank would print the same
        return
    _require_divisible(config, world_size)
    for line in parsed.lines:
        say(line)
    kind = "CPU" if config.device == "cpu" else "GPU"
    say(f"dry run: {world_size} rank(s), each with a {kind}; nothing is computed, and nothing is written")
    try:
        ranks = [rehearse(config, rank, world_size, every_shape=rank == 0) for rank in range(world_size)]
    except InputError:
        raise
    except ValueError as error:  # of an op, which names what it does not take
        raise InputError(f"train.dry_run: on a {kind}: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # of fake tensors, where an op reads its data
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"train.dry_run: this step cannot be gone through without data ({first[:300]})") from error
    require_equal(ranks)
    for line in _plan(config, ranks[0], world_size):
        say(line)


def _require_divisible(config: RunConfig, world_size: int) -> None:
    """Check that the world size divides the number of micro-batches.

    Raises:
        InputError: it does not.
    """
    if config.train.micro_batches % world_size:
        raise InputError(
            f"train.dry_run_ranks is {world_size}: it must divide train.micro_batches = {config.train.micro_batches}"
        )


def require_equal(ranks: list[Rehearsal]) -> None:
    """Check that all ranks run the same collectives in the same order; otherwise they would deadlock.

    Raises:
        StoppedError: they do not; the message names the first difference.
    """
    first = ranks[0].exchanges
    for rank, other in enumerate(ranks):
        if first is None or other.exchanges is None:
            continue
        for place, (ours, theirs) in enumerate(zip(first, other.exchanges, strict=False), start=1):
            if ours != theirs:
                raise StoppedError(
                    f"exchange {place} of a step is {theirs.name} {', '.join(theirs.tensors)} on rank {rank}, and "
                    f"{ours.name} {', '.join(ours.tensors)} on rank 0"
                )
        if len(other.exchanges) != len(first):
            raise StoppedError(
                f"a step has {len(other.exchanges)} exchanges on rank {rank}, and {len(first)} on rank 0"
            )


def _plan(config: RunConfig, rank: Rehearsal, world_size: int) -> Iterator[str]:
    train = config.train
    piece = train.batch_tokens // train.micro_batches
    rows = " or ".join(f"{piece // length:,} rows of {length:,}" for length in dict.fromkeys(train.seq_lens))
    yield (
        f"a step: {train.batch_tokens:,} tokens in {train.micro_batches} micro-batches of {piece:,} ({rows}); each "
        f"rank makes {train.micro_batches // world_size} of them in {rank.micro_steps} pass(es)"
    )
    yield f"model: {parameters.count(config.model):,} parameters"
    yield ""
    if world_size == 1:
        yield "exchanges: none, there is one rank"
    elif rank.exchanges is None:
        yield "exchanges: not compared, for this torch has no fake process group (torch.testing._internal)"
    else:
        yield f"exchanges of a step, the same on all {world_size} ranks:"
        said = enumerate(rank.exchanges, start=1)
        cells: list[list[Cell]] = [[place, each.name, each.tensors[0], each.bytes] for place, each in said]
        yield table(["#", "exchange", "its first tensor", "bytes of the largest"], cells)
    if rank.banks:
        yield ""
        yield table(
            ["bank", "matrices", "of each rank", "padding"],
            [[bank.name, bank.matrices, bank.share, bank.padding] for bank in rank.banks],
        )
    yield ""
    yield from _memory(rank)
    yield ""
    yield from _time(config, world_size)


def _memory(rank: Rehearsal) -> Iterator[str]:
    memory = rank.memory
    said = {
        "parameters": memory.parameters,
        "gradients": memory.gradients,
        "optimizer, this rank's part": memory.optimizer,
        "averages": memory.averages,
        "activations, at most": memory.activations,
        "update, at most": memory.exchange,
        "at a time, at most": memory.total,
    }
    yield "memory of a rank, as every op of its own leaves it (a compiler needs less); without torch's own and NCCL's:"
    yield table(["what", "GiB"], [[name, f"{size / _GIB:.3f}"] for name, size in said.items()])


def _time(config: RunConfig, world_size: int) -> Iterator[str]:
    train, budget = config.train, Budget.of(config)
    if budget.limit:
        kept = f", {budget.kept:g} s are kept for the quantization" if budget.kept else ""
        least = 1e3 * budget.for_training / train.max_steps
        yield (
            f"time: {budget.for_training:g} s of training{kept}; at most {train.max_steps:,} steps, which are made "
            f"where one takes {least:.1f} ms or less"
        )
    else:
        yield f"time: no limit; {train.max_steps:,} steps"
    known = _known(config, world_size)
    steps = train.max_steps
    if known is not None:
        run, seconds = known
        if budget.limit:
            steps = min(steps, int(budget.for_training / seconds))
        yield (
            f"a step took {1e3 * seconds:.1f} ms in {run}: {steps:,} steps in {steps * seconds:,.0f} s, "
            f"{steps * train.batch_tokens:,} tokens"
        )
    elif budget.limit:
        yield f"a step's time is not known: {config.runs_dir} has no run of this model on {world_size} rank(s)"
    else:
        yield f"{steps * train.batch_tokens:,} tokens"
    yield from _passes(config, steps if known or not budget.limit else None)


def _passes(config: RunConfig, steps: int | None) -> Iterator[str]:
    if config.data.source not in ("auto", "shards") or config.data.text or not config.data.shards.is_dir():
        return
    try:
        tokens = sum(shard_tokens(path) for path in find_shards(config.data.shards, "train"))
    except InputError as error:
        yield f"data: {error}"
        return
    passes = f", {steps * config.train.batch_tokens / tokens:.2f} passes over them" if steps else ""
    yield f"data: {tokens:,} training tokens in {config.data.shards}{passes}"


def _known(config: RunConfig, world_size: int) -> tuple[Path, float] | None:
    """The newest run with this model, batch and world size, and the seconds that a step of it took."""
    found = []
    for folder in config.runs_dir.iterdir() if config.runs_dir.is_dir() else ():
        run = FinishedRun(folder)
        try:
            result, theirs = run.result(), run.config
        except InputError:
            continue
        same = (theirs.model, theirs.train.batch_tokens, result.world_size)
        if same == (config.model, config.train.batch_tokens, world_size) and result.tokens_per_second:
            seconds = config.train.batch_tokens / result.tokens_per_second
            found.append((run.paths.result.stat().st_mtime, folder, seconds))
    newest = max(found, default=None)
    return newest[1:] if newest else None
