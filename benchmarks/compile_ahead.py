"""Compile kernels before anything is timed, many at once: `python -m benchmarks compile`.

Triton keeps what it compiled on disk, under a key of source, arguments, options and target. The processes of the pool
have no device: they compile for its target, so no context is made and no memory taken on it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from golf_fast.arguments import Parser
from golf_fast.errors import InputError
from golf_fast.ops.launch import Launch, triton_obstacle

TUNE = "tune"
"""What besides the names of the ops can be compiled."""


def launches(what: str, arch: int) -> Iterator[tuple[str, Launch]]:
    """Every launch with its name, on the meta device: of an op at the seed's shapes, or of what `tune` tries."""
    from golf_fast.ops import registry

    if what != TUNE:
        for build in registry.load()[what].builds():
            if build.arch == arch:
                yield f"{what}: {build.label}", build.launch
        return
    from benchmarks.tune.kernels import Shapes, kernels

    for kernel in kernels(Shapes(), torch.device("meta")):
        yield from ((f"tune {kernel.name}: {choice}", kernel.launch(choice)) for choice in kernel.choices)


def compile_all(whats: Sequence[str], arch: int, jobs: int, here: bool = False) -> list[str]:
    """Compile the launches of ops, and of `TUNE`, in `jobs` processes; what failed, in a line each.

    `here`: they will be started on this machine, so what starts them is compiled too.
    """
    names = [(what, i) for what in whats for i, _ in enumerate(launches(what, arch))]
    context = multiprocessing.get_context("spawn")
    failed = []
    with ProcessPoolExecutor(
        max(1, min(jobs, len(names))), mp_context=context, initializer=_begin, initargs=(arch,)
    ) as pool:
        waiting = [pool.submit(_compile, what, i, arch, here) for what, i in names]
        for done in as_completed(waiting):
            if problem := done.result():
                failed.append(problem)
    return failed


def _begin(arch: int) -> None:
    """In each process of the pool: no thread beside it, and a driver without a device."""
    import triton

    from golf_fast.ops.absent_gpu import AbsentGpu

    torch.set_num_threads(1)
    triton.runtime.driver.set_active(AbsentGpu(arch))


def _compile(what: str, index: int, arch: int, here: bool) -> str | None:
    name, launch = next(pair for i, pair in enumerate(launches(what, arch)) if i == index)
    try:
        made = launch.compile()
        driver = importlib.import_module("triton.backends.nvidia.driver")
        if here and hasattr(driver, "make_launcher"):  # triton 3.6 makes a C module for each signature
            driver.CudaLauncher(made.src, made.metadata)
    except Exception as error:  # whatever a compiler throws: the others go on
        return f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return None


def main(arguments: Sequence[str]) -> None:
    from golf_fast.ops import registry

    ops = registry.op_folders()
    parser = Parser(
        prog="python -m benchmarks compile",
        description="Compile the kernels of all ops at the seed's shapes into triton's cache, many at once.",
    )
    parser.add_argument("--op", choices=ops, action="append", help="only this op (may be repeated)")
    parser.add_argument("--tune", action="store_true", help="also all launch parameters that `tune` tries")
    parser.add_argument("--arch", type=int, choices=(80, 90), help="for which GPU (default: the one here)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        raise InputError(f"--jobs is {options.jobs}: it must be at least 1")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise InputError("TRITON_INTERPRET is 1, and the interpreter compiles nothing: unset it")
    arch = options.arch or _arch_here()
    began = time.perf_counter()
    whats = [*(options.op or ops), *([TUNE] if options.tune else [])]
    failed = compile_all(whats, arch, options.jobs, here=options.arch is None)
    for line in failed:
        print(f"not compiled: {line}", file=sys.stderr)
    print(f"compiled for sm_{arch} in {time.perf_counter() - began:.1f} s, {options.jobs} at once")
    if failed:
        sys.exit(1)


def _arch_here() -> int:
    if obstacle := triton_obstacle("cuda"):
        raise InputError(f"{obstacle}; --arch 90 compiles for a GPU that is not here")
    from golf_fast.ops.launch import architecture

    return architecture(torch.device("cuda", torch.cuda.current_device()))
