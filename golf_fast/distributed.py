"""The ranks of a run and their collectives. A single process never uses torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from golf_fast.errors import InputError
from golf_fast.peers import Peers

_BUCKET_BYTES = 32 << 20  # large enough to fill the links, small enough for the copy to stay cheap
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Wait = Callable[[], None]
"""Waits for a collective that was begun; between GPUs the stream waits, not the host."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process in a run, and its collectives.

    Collectives must be called by every rank in the same order with tensors of equal shapes. Tensors on a GPU use NCCL;
    tensors on the CPU, and the numbers and barriers of the host, use gloo, so that they do not wait for a GPU.
    """

    rank: int
    world_size: int
    device: torch.device
    peers: Peers | None = None
    """The other ranks; None: there are none."""
    local_rank: int = 0
    """Number of this rank among the ranks of its machine."""

    @staticmethod
    def single(device: torch.device | str = "cpu") -> Ranks:
        """The only process of a run."""
        return Ranks(0, 1, torch.device(device))

    @staticmethod
    def from_environment(device_kind: str, micro_batches: int | None = None, peers: type[Peers] = Peers) -> Ranks:
        """Join the run that torchrun describes in environment variables; without them this is the only process.

        Args:
            device_kind: "cpu", or "cuda": every rank takes the GPU of its local rank.
            micro_batches: number that the world size must divide (`train.micro_batches`); None: no check.
            peers: class that connects to the other ranks; `golf_fast.watched_peers.WatchedPeers` also watches them.

        Raises:
            InputError: some of torchrun's variables are missing or invalid, the world size does not divide
                `micro_batches`, or there are fewer GPUs than local ranks.
            StoppedError: another rank did not join; the message names it. Later collectives raise it too, if a rank
                does not respond within GOLF_FAST_PEER_SECONDS.
        """
        assert device_kind in ("cpu", "cuda"), device_kind
        world_size = 1
        rank = local_rank = 0
        if any(name in os.environ for name in _LAUNCHER[:3]):
            rank, world_size, local_rank = (_whole_number(name) for name in _LAUNCHER[:3])
        _check_place(rank, world_size, local_rank, micro_batches)
        if device_kind == "cpu":
            device = torch.device("cpu")
        else:
            available = torch.cuda.device_count()
            if local_rank >= available:
                raise InputError(
                    f"LOCAL_RANK is {local_rank}: this machine has {available} GPUs, start {available} or fewer ranks"
                )
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        if world_size > 1:
            return Ranks(rank, world_size, device, _join(rank, world_size, device_kind, peers), local_rank)
        return Ranks(rank, world_size, device)

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def turn(self) -> int:
        """The turn of this rank in work that some ranks must do before others: 0 for rank 0, 1 for the first rank of
        each other machine (which may not share its files), 2 for the rest."""
        return 0 if self.main else 1 if self.local_rank == 0 else 2

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """This rank's contiguous part `(start, stop)` of a range; sizes differ by one at most."""
        count = stop - start
        return start + count * self.rank // self.world_size, start + count * (self.rank + 1) // self.world_size

    def all_mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each floating-point tensor (any shape, all on one device) by its mean over the ranks, bit-identical
        on all ranks."""
        if self.world_size == 1:
            return
        with torch.no_grad():
            for group in _buckets(tensors):
                alone = len(group) == 1 and group[0].is_contiguous()
                flat = group[0] if alone else torch.cat([tensor.reshape(-1) for tensor in group])
                self.all_sum_(flat)
                flat.div_(self.world_size)
                if not alone:
                    offset = 0
                    for tensor in group:
                        tensor.copy_(flat[offset : offset + tensor.numel()].view(tensor.shape))
                        offset += tensor.numel()

    def all_sum_(self, tensor: Tensor) -> Tensor:
        """Replace a contiguous tensor by its sum over the ranks, and return it."""
        if self.world_size == 1:
            return tensor
        assert tensor.is_contiguous()
        data = tensor.detach()
        if data.device.type == "cpu" and data.dtype in (torch.bfloat16, torch.float16):
            wide = data.float()  # gloo would round to 16 bits after every addition, or not support the dtype
            self._exchange(lambda: dist.all_reduce(wide))
            data.copy_(wide)
        else:
            self._exchange(lambda: dist.all_reduce(data))
        return tensor

    def all_gather_into(self, out: Tensor, shard: Tensor) -> Tensor:
        """Fill `out` `[world_size * n, ...]` with every rank's `shard` `[n, ...]` in rank order, and return it.

        Both are contiguous and of one dtype, any dtype; `shard` may be this rank's slice of `out`.
        """
        assert out.is_contiguous()
        assert shard.is_contiguous()
        assert out.dtype == shard.dtype
        assert out.numel() == self.world_size * shard.numel()
        if self.world_size == 1:
            if out.data_ptr() != shard.data_ptr():
                out.detach().copy_(shard.view(out.shape))
            return out
        # torch renamed the function; both names do the same.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        self._exchange(lambda: gather(_as_bytes(out), _as_bytes(shard)))
        return out

    def start_sum(self, tensor: Tensor) -> Wait:
        """Begin to replace a contiguous float32 or float64 tensor by its sum over the ranks."""
        assert tensor.is_contiguous()
        return self._start(lambda: dist.all_reduce(tensor.detach(), async_op=True))

    def start_reduce_scatter(self, out: Tensor, tensor: Tensor) -> Wait:
        """Begin to fill `out` `[n, ...]` with this rank's rows of the sum over the ranks of `tensor`
        `[world_size * n, ...]`, which must not change until the wait. Both are contiguous, float32 or float64."""
        assert out.is_contiguous()
        assert tensor.is_contiguous()
        assert out.dtype == tensor.dtype
        assert tensor.numel() == self.world_size * out.numel()
        # torch renamed the function; both names do the same.
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return self._start(lambda: scatter(out, tensor.detach(), async_op=True))

    def start_all_gather(self, out: Tensor, shard: Tensor) -> Wait:
        """As `all_gather_into`, but return before it is complete."""
        assert out.is_contiguous()
        assert shard.is_contiguous()
        assert out.dtype == shard.dtype
        assert out.numel() == self.world_size * shard.numel()
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        return self._start(lambda: gather(_as_bytes(out), _as_bytes(shard), async_op=True))

    def _start(self, collective: Callable[[], Any]) -> Wait:
        works: list[Any] = []
        self._exchange(lambda: works.append(collective()))
        return lambda: self._exchange(works[0].wait)

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Every rank's bytes, of any length, in rank order, exchanged between the hosts without waiting for a GPU."""
        if self.world_size == 1:
            return [data]
        lengths = torch.zeros(self.world_size, dtype=torch.int64)
        self.all_gather_into(lengths, torch.tensor([len(data)]))
        longest = int(lengths.max())
        padded = torch.frombuffer(bytearray(data.ljust(max(longest, 1), b"\0")), dtype=torch.uint8)
        gathered = torch.empty(self.world_size * len(padded), dtype=torch.uint8)
        self.all_gather_into(gathered, padded)
        rows = gathered.view(self.world_size, -1)
        return [row[:length].numpy().tobytes() for row, length in zip(rows, lengths.tolist(), strict=True)]

    def broadcast_float(self, x: float) -> float:
        """Rank 0's number, exactly, sent between the hosts without waiting for a GPU."""
        if self.world_size == 1:
            return x
        number = torch.tensor([x], dtype=torch.float64)
        self._exchange(lambda: dist.broadcast(number, src=0))
        return float(number.item())

    def barrier(self) -> None:
        """Wait until the host of every rank has called this; work queued on a GPU is not waited for."""
        if self.world_size > 1:
            self._exchange(lambda: dist.all_reduce(torch.zeros(1)))

    def _exchange(self, collective: Callable[[], object]) -> None:
        """Run a collective of torch; if it times out, raise an error that names the missing rank."""
        try:
            collective()
        except RuntimeError as error:
            if self.peers is None:
                raise
            raise self.peers.lost(error) from error

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave the run; after an error, inform the other ranks, which then end and report it too."""
        if error is None:
            self.close()
        elif self.peers is not None:
            self.peers.failed(error)

    def close(self) -> None:
        """Leave the run. No collective may follow."""
        if self.peers is not None:
            self.peers.close()
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _join(rank: int, world_size: int, device_kind: str, kind: type[Peers]) -> Peers:
    for name in _LAUNCHER[3:]:
        if name not in os.environ:
            raise InputError(f"{name} is not set: {world_size} ranks need it to meet; start with torchrun")
    port = _whole_number("MASTER_PORT")
    if not 0 < port < 65536:
        raise InputError(f"MASTER_PORT is {port}: it must be from 1 to 65535")
    peers = kind(rank, world_size, os.environ["MASTER_ADDR"], port)
    backend = "gloo" if device_kind == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, store=peers.store, rank=rank, world_size=world_size, timeout=peers.exchange)
    except RuntimeError as error:
        raise peers.lost(error) from error
    return peers


def _whole_number(name: str) -> int:
    text = os.environ.get(name)
    if text is None:
        raise InputError(
            f"{name} is not set: {', '.join(_LAUNCHER[:3])} come together; start with torchrun, or unset them"
        )
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}: it must be a whole number") from None


def _check_place(rank: int, world_size: int, local_rank: int, micro_batches: int | None) -> None:
    if world_size < 1:
        raise InputError(f"WORLD_SIZE is {world_size}: it must be at least 1")
    for name, value in (("RANK", rank), ("LOCAL_RANK", local_rank)):
        if not 0 <= value < world_size:
            raise InputError(f"{name} is {value}: it must be from 0 to WORLD_SIZE - 1 = {world_size - 1}")
    if micro_batches is not None and micro_batches % world_size:
        raise InputError(f"WORLD_SIZE is {world_size}: it must divide train.micro_batches = {micro_batches}")


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of one dtype and at most `_BUCKET_BYTES`, or of one larger tensor; the same on every rank."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        assert tensor.is_floating_point(), f"a mean of {tensor.dtype}"
        by_dtype.setdefault(tensor.dtype, []).append(tensor.detach())
    for members in by_dtype.values():
        group: list[Tensor] = []
        size = 0
        for tensor in members:
            if group and size + tensor.nbytes > _BUCKET_BYTES:
                yield group
                group, size = [], 0
            group.append(tensor)
            size += tensor.nbytes
        yield group


def _as_bytes(tensor: Tensor) -> Tensor:
    """The memory of a contiguous tensor as uint8 `[bytes]`, for collectives that only move data, of any dtype."""
    assert tensor.is_contiguous()
    return tensor.detach().reshape(-1).view(torch.uint8)
