"""What can be measured: a module of this package for each op, with a function `cases`.

`cases(device_kind)` yields the cases that run on "cpu" or "cuda"; what it makes for one case may be thrown away before
the next. `left_out(device_kind)` says in a line each what it does not measure there, and why.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

OPS = (
    "bitpack",
    "relu2_mlp",
    "window_attention",
    "qk_norm_rope",
    "exclusive_gate",
    "qkv_attention",
    "linear_residual",
    "residual_mix",
    "softcap_cross_entropy",
    "newton_schulz",
    "update",
)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        op: name of the op.
        label: description of the work and its sizes.
        implementation: name of the backend that `ours` runs.
        ours: function that does the work once.
        peers: functions to compare with, by name: other implementations of the work, or an upper bound on its speed.
        gate: function that returns None if `ours` computes the right thing, else what is wrong; then no time is
            reported.
        bytes_moved: least number of bytes that `ours` reads and writes.
        flops: number of floating-point operations of `ours`.
        peer_gates: gates of the peers that compute the same as `ours`, by name; a peer that fails is left out.
    """

    op: str
    label: str
    implementation: str
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]
    gate: Callable[[], str | None]
    bytes_moved: int = 0
    flops: int = 0
    peer_gates: dict[str, Callable[[], str | None]] = field(default_factory=dict)


class OpBenchmarks(Protocol):
    """The interface of the modules of `OPS`."""

    def cases(self, device_kind: str) -> Iterator[Case]: ...

    def left_out(self, device_kind: str) -> list[str]: ...


def load(op: str) -> OpBenchmarks:
    """The module of an op."""
    module: OpBenchmarks = importlib.import_module(f"benchmarks.ops.{op}")
    return module
