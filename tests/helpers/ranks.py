"""Runs a script as the ranks of one run, each a process with the environment that torchrun gives it.

Starting them as new programs takes seconds a rank, nearly all of it for importing torch. So they are forked, from a
process that has imported what they need and has done nothing else: one thread, or what is forked from it may hang.
"""

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

PRELOADED = ["pytest", "torch._dynamo", "golf_fast.compress", "golf_fast.score", "golf_fast.pipeline.execute"]
"""The compiler too: torch imports it when an optimizer is made."""
SECONDS = 300


def fork_context(import_path: Sequence[Path]) -> multiprocessing.context.ForkServerContext:
    """Where ranks are forked from; its process runs from now on, until this one ends."""
    context = multiprocessing.get_context("forkserver")
    if sys.platform == "linux":  # elsewhere a fork of what torch has linked may not be safe
        context.set_forkserver_preload(PRELOADED)
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, import_path))}
    with mock.patch.dict(os.environ, alone):
        forkserver.ensure_running()
    return context


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def be(environment: dict[str, str], script: str, arguments: Sequence[str], said: Path) -> None:
    """Be one rank; what it says on stdout and stderr goes to a file."""
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    atexit._run_exitfuncs()  # a process of multiprocessing would end without


def start(
    context: multiprocessing.context.ForkServerContext,
    folder: Path,
    script: str,
    world_size: int,
    arguments: Sequence[str],
) -> tuple[list[ForkServerProcess], list[Path]]:
    """Start a script as every rank: the processes, and where they say what they say, in `folder`."""
    shared = {
        **os.environ,
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    said = [folder / f"{rank}.txt" for rank in range(world_size)]
    for path in said:
        path.touch()  # for those who read before the rank has begun
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]
    ranks = [
        context.Process(target=be, args=(shared | place, script, arguments, path))
        for place, path in zip(places, said, strict=True)
    ]
    try:
        for rank in ranks:
            rank.start()
    except BaseException:
        end(ranks)
        raise
    return ranks, said


def end(ranks: Sequence[ForkServerProcess]) -> None:
    """Kill the ranks that still run."""
    for rank in ranks:
        if rank.pid is not None:
            rank.kill()
            rank.join()


def finish(ranks: Sequence[ForkServerProcess], said: Sequence[Path]) -> None:
    """Wait for the ranks, and see that each exits with 0."""
    try:
        limit, running = time.monotonic() + SECONDS, dict(enumerate(ranks))
        while running and time.monotonic() < limit:
            # The first that fails says why; the others may wait for it in vain.
            connection.wait([rank.sentinel for rank in running.values()], limit - time.monotonic())
            for number, rank in [(number, rank) for number, rank in running.items() if not rank.is_alive()]:
                assert rank.exitcode == 0, f"rank {number} ended with {rank.exitcode}: {said[number].read_text()}"
                del running[number]
        assert not running, f"after {SECONDS} s still running: {sorted(running)}"
    finally:
        end(ranks)


class Job:
    """A script as every rank, from the beginning of a block to its end, when those that still run are killed.

    Attributes:
        ranks: their processes.
        said: the file of what each says.
    """

    def __init__(
        self,
        context: multiprocessing.context.ForkServerContext,
        folder: Path,
        script: str,
        world_size: int,
        arguments: Sequence[str],
    ) -> None:
        self._asked = (context, folder, script, world_size, arguments)

    def __enter__(self) -> "Job":
        self.ranks, self.said = start(*self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.ranks)

    def end(self, seconds: float) -> list[int | None]:
        """How each rank ended, or None where it still runs after that time."""
        until = time.monotonic() + seconds
        for rank in self.ranks:
            rank.join(max(0.0, until - time.monotonic()))
        return [rank.exitcode for rank in self.ranks]
