"""Small calls of ops, to be watched by compute-sanitizer: `python tests/helpers/sanitized.py DEVICE OP...`.

Each op runs by its kernels (Triton's; of bitpack the extension's), forward and backward on the samples of the registry
and once by each operator, and its name is printed with the backend and the number of Triton launches. On "cpu" the
Triton kernels are interpreted if TRITON_INTERPRET=1. `overrun` and `uninitialized` are planted faults.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from helpers import compare

from golf_fast.ops import backends, passes, registry
from golf_fast.ops.bitpack import native
from golf_fast.ops.launch import Launch, launches

CASES = registry.load()
FAULTS = {
    "overrun": lambda device: torch.zeros(100, device=device),
    "uninitialized": lambda d: torch.empty(128, device=d),
}


def kernels_of(op: str) -> str:
    """The backend of an op that has its kernels."""
    return "triton" if "triton" in backends.names(op) else "native"


def watchable(names: list[str], device_kind: str) -> list[str]:
    """Those of `names` whose kernels run on a kind of device: the extension's need it, and most of them a CPU."""
    obstacles = {"bitpack": native.obstacle}
    return [op for op in names if kernels_of(op) == "triton" or obstacles.get(op, passes.obstacle)(device_kind) is None]


def plant(fault: str, device: torch.device) -> None:
    """Copy 128 floats of which the last 28 are not there, or none were ever written."""
    from helpers import planted

    arguments = {"a": FAULTS[fault](device), "c": torch.zeros(128, device=device), "SIZE": 128}
    Launch("planted", planted.copy_kernel, (1,), arguments, 4, 1)()


def call(op: str, device: torch.device) -> None:
    """Everything that an op has, once."""
    cases = CASES[op]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for sample in cases.samples(device, dtype):
        compare.run(cases.function, sample)
    for each in cases.operator_calls(device, dtype):
        getattr(torch.ops.golf_fast, each.operator)(*each.arguments)


def main(device: torch.device, names: list[str]) -> None:
    ops = [name for name in names if name not in FAULTS]
    os.environ[backends.VARIABLE] = ",".join(f"{op}={kernels_of(op)}" for op in ops)
    for name in names:
        before = launches.total()
        if name in FAULTS:
            plant(name, device)
        else:
            call(name, device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        backend = "planted" if name in FAULTS else backends.resolve(name, device).name
        print(f"{name}: {backend}, {launches.total() - before} launches", flush=True)


if __name__ == "__main__":
    main(torch.device(sys.argv[1]), sys.argv[2:])
