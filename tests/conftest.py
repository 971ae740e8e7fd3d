"""What tests of several folders share."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import golf_fast


@pytest.fixture(scope="session")
def run_ranks() -> Callable[..., None]:
    """A function `(script, world_size, *arguments)` that runs a script as the ranks of one run, as torchrun does.

    They are programs and not forks: a fork of a process whose thread pools are running may hang.
    """

    def run(script: str, world_size: int, *arguments: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = os.environ | {
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(golf_fast.__file__).parents[1]), str(Path(__file__).parent)]),
        }
        command = [sys.executable, script, *map(str, arguments)]
        processes = [
            subprocess.Popen(
                command,
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world_size)
        ]
        try:
            for rank, process in enumerate(processes):
                output, _ = process.communicate(timeout=300)
                assert process.returncode == 0, f"rank {rank}: {output}"
        finally:
            for process in processes:
                process.kill()
                process.wait()

    return run
