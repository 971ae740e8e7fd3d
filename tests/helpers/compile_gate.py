"""Compile every Triton kernel for a GPU that is not there, and say what came out.

`python tests/helpers/compile_gate.py FILE` writes the measurements of all builds in the registry, and of planted
violations, to FILE as JSON. It is a process of its own because Triton cannot compile where TRITON_INTERPRET=1.
`violations` is the gate; it runs anywhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ.pop("TRITON_INTERPRET", None)

from golf_fast.ops import registry
from golf_fast.ops.absent_gpu import SHARED_LIMIT, compile_launch, planned_programs
from golf_fast.ops.registry import Build

TENSOR_CORES = {90: "wgmma.mma_async", 80: "mma.sync"}
TMA = "cp.async.bulk.tensor"
PLANTED = "planted"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a compilation produced: bytes of shared memory and of stack (spills), instructions that it uses, how many
    programs fit a multiprocessor, and what is wrong with its matrix products."""

    shared: int
    stack: int
    registers: int
    tensor_cores: bool
    tma: bool
    programs: int = 1
    hazards: tuple[str, ...] = ()


def violations(build: Build, measured: Measured) -> list[str]:
    """What is wrong with a compilation, in words; empty if nothing is."""
    found = []
    if measured.shared > SHARED_LIMIT[build.arch]:
        found.append(f"{measured.shared} bytes of shared memory, more than the {SHARED_LIMIT[build.arch]} there are")
    if measured.stack > build.stack_bytes:
        found.append(f"{measured.stack} bytes spill to the stack, more than the {build.stack_bytes} agreed on")
    if build.tensor_cores and not measured.tensor_cores:
        found.append(f"no {TENSOR_CORES[build.arch]} in the PTX")
    if build.tma and not measured.tma:
        found.append(f"no {TMA} in the PTX")
    planned = planned_programs(build.launch)
    if 0 < measured.programs < planned:  # none where the shared memory does not fit, which was said
        found.append(f"a multiprocessor holds {measured.programs} programs, and {planned} are planned")
    found += [f"a product in flight: {hazard}" for hazard in measured.hazards]
    return found


def measure(build: Build) -> Measured:
    """Compile a build for its architecture."""
    made = compile_launch(build.launch, build.arch)
    return Measured(
        made.shared,
        made.stack,
        made.registers,
        TENSOR_CORES[build.arch] in made.ptx,
        TMA in made.ptx,
        made.programs,
        tuple(made.hazards),
    )


def all_builds() -> list[tuple[str, Build]]:
    """Every build of the registry as (op, build)."""
    return [(op, build) for op, cases in registry.load().items() for build in cases.builds()]


def key(op: str, build: Build) -> str:
    return f"{op}: {build.label} sm_{build.arch}"


def _measure_item(item: tuple[str, int]) -> tuple[str, dict[str, Any]]:
    op, index = item
    if op == PLANTED:
        from helpers import planted

        build = planted.builds()[index]
    else:
        build = registry.load()[op].builds()[index]
    return key(op, build), dataclasses.asdict(measure(build))


def sources() -> str:
    """A hash of all that the measurements depend on: what is compiled, with what, and this file."""
    here = Path(__file__)
    digest = hashlib.sha256(sys.version.encode())
    for name in ("triton", "torch", "numpy"):
        digest.update(f"{name} {importlib.metadata.version(name)}\0".encode())
    for name in sorted(os.environ):
        if name.startswith(("TRITON_", "GOLF_FAST_")) and name not in ("TRITON_INTERPRET", "TRITON_CACHE_DIR"):
            digest.update(f"{name}={os.environ[name]}\0".encode())
    for path in (here, here.with_name("planted.py"), *sorted(Path(registry.__file__).parent.rglob("*.py"))):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def main(path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from helpers import planted

    items = [(op, i) for op, cases in registry.load().items() for i in range(len(cases.builds()))]
    items += [(PLANTED, i) for i in range(len(planted.builds()))]
    with multiprocessing.get_context("spawn").Pool(min(4, os.cpu_count() or 1)) as pool:
        path.write_text(json.dumps(dict(pool.imap_unordered(_measure_item, items, chunksize=1))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
