"""The rendezvous of the ranks of a run, and the detection of ranks that do not respond."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from golf_fast.errors import InputError, StoppedError

VARIABLE = "GOLF_FAST_PEER_SECONDS"
"""Environment variable with the seconds that a rank waits for another, at the start and in every collective."""
MEETING_SECONDS = 300.0
"""Default timeout of the rendezvous in seconds: ranks are started together, and the imports of a rank take a minute."""
EXCHANGE_SECONDS = 1800.0
"""Default timeout of a collective in seconds: others wait while rank 0 builds data and measures compression."""
_GRACE_SECONDS = 5.0
"""Seconds by which ranks may differ in noticing that one is missing."""


class Peers:
    """The other ranks of a run, and the key-value store through which they communicate.

    Args:
        rank: this rank.
        world_size: number of ranks.
        address: address of the store, which rank 0 or the launcher hosts.
        port: port of the store.

    Raises:
        InputError: the port or GOLF_FAST_PEER_SECONDS is invalid.
        StoppedError: a rank did not join in time; the message names it.
    """

    def __init__(self, rank: int, world_size: int, address: str, port: int) -> None:
        self.rank = rank
        self.world_size = world_size
        asked = _asked_seconds()
        self.exchange = timedelta(seconds=asked or EXCHANGE_SECONDS)
        seconds = asked or MEETING_SECONDS
        self.with_rank_0 = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        """Whether rank 0 hosts the store; torchrun may do so itself."""
        self.store = self.open(address, port, seconds, self.with_rank_0 and rank == 0)
        self._meet(seconds)

    def open(self, address: str, port: int, seconds: float, holds: bool = False) -> Any:
        """A connection to the store.

        Raises:
            StoppedError: no connection was possible within `seconds`.
        """
        limit = timedelta(seconds=seconds)
        try:
            store = dist.TCPStore(  # type: ignore[attr-defined]
                address, port, self.world_size, holds, timeout=limit, wait_for_workers=False, multi_tenant=True
            )
            # torchrun restarts the ranks after a failure, with the same store.
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            return dist.PrefixStore(f"golf_fast/{attempt}", store)  # type: ignore[attr-defined]
        except RuntimeError as error:
            why = "cannot be held here" if holds else f"rank 0 did not open it within {seconds:g} s"
            message = str(error).partition("\n")[0]
            raise StoppedError(f"the store of the ranks at {address}:{port}: {why} ({message})") from error

    def _meet(self, seconds: float) -> None:
        self.store.set(f"here/{self.rank}", self.about())
        try:
            self.store.wait([f"here/{rank}" for rank in range(self.world_size)], timedelta(seconds=seconds))
        except RuntimeError as error:
            missing = [f"rank {rank}" for rank in range(self.world_size) if not self._has(f"here/{rank}")]
            raise StoppedError(
                f"{', '.join(missing) or 'a rank'} of {self.world_size} did not come within {seconds:g} s; "
                f"{VARIABLE} waits longer"
            ) from error

    def about(self) -> str:
        """The description of this rank for the others: its name."""
        return f"rank {self.rank} (process {os.getpid()} on {platform.node()})"

    def failed(self, error: BaseException) -> None:
        """Report that an error ends this rank."""

    def close(self) -> None:
        """Leave, so that no other rank waits for this one."""

    def _has(self, key: str) -> bool:
        try:
            return bool(self.store.check([key]))
        except RuntimeError:  # the store went with its holder
            return False

    def lost(self, error: RuntimeError) -> StoppedError:
        """The error to raise after a failed collective, which names the ranks that do not respond."""
        said = str(error).partition("\n")[0]
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        names = {rank: f"rank {rank}" for rank in others}
        try:
            self.store.set(f"noticed/{self.rank}", "yes")
            names = {rank: self.store.get(f"here/{rank}").decode() for rank in others}
            end = time.monotonic() + _GRACE_SECONDS
            while others and time.monotonic() < end:
                others = [rank for rank in others if not self._has(f"noticed/{rank}")]
                time.sleep(0.05)
        except RuntimeError:  # the store went with its holder
            others = [0]
        return unanswered([names[rank] for rank in others], said)


def unanswered(absent: Sequence[str], said: str) -> StoppedError:
    """The error for a failed collective.

    Args:
        absent: names of the ranks that do not respond.
        said: message of torch.
    """
    if absent:
        return StoppedError(f"{', '.join(absent)} does not answer: it has stopped, hangs, or has ended ({said})")
    return StoppedError(f"the ranks could not exchange what they had to, and all of them still answer ({said})")


def _asked_seconds() -> float | None:
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{VARIABLE} is {text!r}: it must be a number of seconds, more than 0 and less than 1,000,000")
    return seconds
