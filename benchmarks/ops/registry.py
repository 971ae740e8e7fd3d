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
        op: which op.
        label: what it does on what, in words.
        implementation: which of our backends `ours` is.
        ours: does the work once.
        peers: others that do the same work, or the ceiling of it, by name.
        gate: None if `ours` computes the right thing, else what is wrong; then no time is reported.
        bytes_moved: read and written at least, by `ours`.
        flops: floating-point operations of `ours`.
        peer_gates: for peers that are no mere ceiling, the same as `gate`: one that fails is left out.
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
    """What a module of `OPS` has."""

    def cases(self, device_kind: str) -> Iterator[Case]: ...

    def left_out(self, device_kind: str) -> list[str]: ...


def load(op: str) -> OpBenchmarks:
    """The module of an op."""
    module: OpBenchmarks = importlib.import_module(f"benchmarks.ops.{op}")
    return module
