"""Simulates a training step of one rank without its arithmetic, for its shapes, collectives and memory, on any machine.

The tensors are torch's fake tensors, which have shapes and no data; the other ranks are torch's fake process group.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from golf_fast.config import RunConfig
from golf_fast.data import Batch, Batches
from golf_fast.data.shards import Tokens
from golf_fast.data.tokenizer import BOS_ID
from golf_fast.distributed import Ranks, Wait
from golf_fast.model import GPT
from golf_fast.model.backends import as_on_a_gpu
from golf_fast.train import Trainer
from golf_fast.train.schedule import Rates, make_schedule

_DOCUMENT_TOKENS = 1024
"""Length of the simulated documents in tokens, about the mean of the challenge's text."""


class Exchange(NamedTuple):
    """A collective of a step; all ranks must run the same one at the same point."""

    name: str
    tensors: tuple[str, ...]
    """Dtype and shape of each tensor."""
    bytes: int
    """Bytes of the largest tensor."""


class Bank(NamedTuple):
    """A bank of matrices that is sharded over the ranks."""

    name: str
    matrices: int
    share: int
    """Number of matrices per rank."""
    padding: int
    """Number of zero matrices that fill the shares of the last ranks."""


@dataclass(frozen=True)
class Memory:
    """Memory of one rank in bytes, by what it is for."""

    parameters: int
    gradients: int
    optimizer: int
    """This rank's part of momentum and moments, and the buffers in which banks are padded."""
    averages: int
    activations: int
    """Peak memory of the forward and backward passes of a micro-step in addition to the above, without a compiler."""
    exchange: int
    """Peak memory of the update in addition to parameters, gradients, optimizer and averages."""

    @property
    def total(self) -> int:
        """Peak memory of a step."""
        held = self.parameters + self.gradients + self.optimizer + self.averages
        return held + max(self.activations, self.exchange)


@dataclass(frozen=True)
class Rehearsal:
    """The simulated step of one rank.

    Attributes:
        exchanges: the collectives in order; None if this version of torch has no fake process group.
        banks: the banks that are sharded.
        memory: memory at the rates of the schedule that need the most.
        micro_steps: number of forward and backward passes of a step.
    """

    exchanges: list[Exchange] | None
    banks: list[Bank]
    memory: Memory
    micro_steps: int


def rehearse(config: RunConfig, rank: int, world_size: int, every_shape: bool = True) -> Rehearsal:
    """Simulate a training step of one rank.

    Args:
        config: configuration of the run, which is simulated as on GPUs, or with `device` "cpu" as on CPUs.
        rank: rank whose step is simulated.
        world_size: number of ranks.
        every_shape: whether every row length and phase of the model that the run reaches is simulated, or only the
            first.

    Raises:
        InputError: the configuration is inconsistent.
    """
    dtype = torch.float32 if config.train.compute_dtype == "float32" else torch.bfloat16
    narrow = dtype if config.train.embedding_dtype == "compute" else torch.float32
    schedule = make_schedule(config.train)
    on_gpu = config.device != "cpu"
    with (
        as_on_a_gpu() if on_gpu else contextlib.nullcontext(),
        _group(rank, world_size) as grouped,
        FakeTensorMode() as fake,
        _Watcher() as watcher,
    ):
        ranks = _Ranks(rank, world_size, torch.device("cpu"))
        model = GPT(config.model, compute_dtype=dtype, embedding_dtype=narrow, seed=None)
        parameters = watcher.held
        batches = _Batches(config, ranks, fake)
        trainer = Trainer(model, model, batches, config.train, ranks)
        trainer.optimizer.reads_at_once = False  # as on a GPU; nothing can be read here
        optimizer = watcher.held - parameters
        if config.train.ema or config.train.swa:
            # An average takes memory once it has started.
            trainer.averages.update(config.train.ema_start_step, 0.0, trainer.optimizer.ok)
        averages = watcher.held - parameters - optimizer
        shapes = schedule.warm_up_rates() if every_shape else [schedule.rates(0, 0.0)]
        held = [_step(trainer, watcher, rates) for rates in shapes]
        activations, exchange, gradients = (max(each) for each in zip(*held, strict=True))
        banks = trainer.optimizer.muon.banks
        return Rehearsal(
            watcher.exchanges[: len(watcher.exchanges) // len(shapes)] if grouped else None,
            [_bank(bank.name, bank.weight.shape[0], bank.share, world_size) for bank in banks if bank.sharded],
            Memory(parameters, gradients, optimizer, averages, activations, exchange),
            trainer.accumulation,
        )


def _bank(name: str, matrices: int, share: int, world_size: int) -> Bank:
    return Bank(name, matrices, share, share * world_size - matrices)


def _step(trainer: Trainer, watcher: _Watcher, rates: Rates) -> tuple[int, int, int]:
    """Peak bytes, in addition to persistent state, of the passes and of the update; and the bytes of the gradients."""
    trainer.optimizer.zero_grad()
    before = watcher.held
    watcher.begin()
    passes: list[int] = []
    update = trainer.optimizer.step

    def updated(rates: Rates, loss: torch.Tensor | None = None) -> None:
        gradients = sum(p.grad.nbytes for p in trainer.optimizer.parameters.values() if p.grad is not None)
        passes.extend((watcher.most - before - gradients, gradients))
        watcher.begin()
        update(rates, loss)

    trainer.optimizer.step = updated  # type: ignore[method-assign]
    try:
        trainer.step(rates)
    finally:
        trainer.optimizer.step = update  # type: ignore[method-assign]
    activations, gradients = passes
    return activations, watcher.most - before - gradients, gradients


@contextlib.contextmanager
def _group(rank: int, world_size: int) -> Iterator[bool]:
    """Join torch's fake process group; yields whether this version of torch has one."""
    try:
        from torch.testing._internal.distributed.fake_pg import FakeStore
    except ImportError:
        yield False
        return
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        yield True
    finally:
        dist.destroy_process_group()


class _Ranks(Ranks):
    """Ranks whose collectives go to the fake process group, or nowhere."""

    def _exchange(self, collective: Callable[[], object]) -> None:
        if dist.is_initialized():
            collective()

    def _start(self, collective: Callable[[], Any]) -> Wait:
        self._exchange(collective)
        return lambda: None


class _Stream:
    """A stream of meaningless tokens in documents of equal length."""

    def read(self, position: int, count: int) -> Tokens:
        tokens = np.full(count, BOS_ID + 1, np.uint16)
        tokens[-position % _DOCUMENT_TOKENS :: _DOCUMENT_TOKENS] = BOS_ID
        return tokens


class _Batches(Batches):
    """Batches with the shapes of real ones."""

    def __init__(self, config: RunConfig, ranks: Ranks, fake: FakeTensorMode) -> None:
        train = config.train
        super().__init__(
            _Stream(),  # type: ignore[arg-type]
            ranks.rank,
            ranks.world_size,
            train.batch_tokens,
            train.micro_batches,
            train.seq_len,
            separate=config.model.separate_documents,
        )
        self._fake = fake

    def next(self) -> Batch:
        with unset_fake_temporarily():
            real = super().next()
        return Batch(*(None if each is None else self._fake.from_tensor(each) for each in real))  # type: ignore[arg-type]


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Observes every operation, and records collectives and the memory of live tensors.

    Attributes:
        exchanges: the collectives so far.
        held: bytes of all live tensors.
        most: the maximum of `held` since `begin`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.exchanges: list[Exchange] = []
        self.held = self.most = 0
        self._alive: set[int] = set()

    def begin(self) -> None:
        self.most = self.held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            tensors = [each for each in tree_leaves(args) if isinstance(each, torch.Tensor)]
            said = tuple(f"{str(each.dtype).removeprefix('torch.')} {list(each.shape)}" for each in tensors)
            name = func.overloadpacket.__name__.strip("_")
            self.exchanges.append(Exchange(name, said, max((each.nbytes for each in tensors), default=0)))
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            size = storage.nbytes()
            self._alive.add(key)
            self.held += size
            self.most = max(self.most, self.held)
            weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.held -= size
