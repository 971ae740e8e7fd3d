"""A rank that raises, is killed, hangs or is stopped in any stage ends the whole run, in time and with its name."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.bare_run import leave_out_the_rest
from helpers.ranks import Job
from helpers.small_run import SMALL, text

from golf_fast import watched_peers as peers
from golf_fast.config import DataConfig
from golf_fast.console import exit_with
from golf_fast.data import prepare
from golf_fast.peers import VARIABLE
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.findings import ADAPTING, BEFORE
from golf_fast.train import Trainer
from golf_fast.train.__main__ import main

SECONDS = 6.0
"""How long a rank waits for another here; all have ended 10 s after that."""


def fail(what: str) -> None:
    Path("failed").touch()
    if what == "raises":
        raise ValueError("on purpose")
    if what == "is stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)


def _run(folder: Path, rank: int, stage: str, what: str) -> None:
    """Be a rank of a run in which one fails, in a stage; the training does after some steps."""
    os.chdir(folder)
    if (stage, what) != ("train", "hangs"):  # that one takes as long as it does
        peers._GRACE_SECONDS, peers._LOOK_SECONDS, peers._END_SECONDS = 2.0, 0.1, 1.0
    before, step = Context.stage, Trainer.step
    done = []

    @contextmanager
    def staged(self: Context, name: str) -> Iterator[dict[str, float]]:
        with before(self, name) as note:
            if self.ranks.rank == rank and name == stage != "train":
                fail(what)
            yield note

    def stepped(self: Trainer, *arguments: Any) -> Any:
        done.append(self)
        if self.ranks.rank == rank and stage == "train" and len(done) == 4:
            fail(what)
        return step(self, *arguments)

    Context.stage, Trainer.step = staged, stepped  # type: ignore[method-assign]
    leave_out_the_rest(setattr)
    exit_with(main)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and what is built of it: no rank is to wait while another does."""
    folder = tmp_path_factory.mktemp("text")
    path = text(folder)
    prepare(DataConfig(source="text", text=path, built=folder / "built"), 300, has_gpu=False)
    return path


@pytest.mark.parametrize(
    ("rank", "stage", "what"),
    [
        (1, "data", "raises"),
        (1, "train", "is killed"),
        (1, "train", "hangs"),
        (1, "compress", "is stopped"),
        (0, "what compression cost", "is killed"),
        (0, BEFORE, "raises"),
        (1, ADAPTING, "hangs"),
    ],
)
def test_a_run_ends_with_the_name_of_the_rank(
    start_ranks: Callable[..., Job],
    documents: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    stage: str,
    what: str,
) -> None:
    monkeypatch.setenv(VARIABLE, str(SECONDS))
    with start_ranks(
        __file__,
        2,
        tmp_path,
        rank,
        stage,
        what,
        *SMALL,
        "--run-id=it",
        f"--data.text={documents}",
        f"--data.built={documents.parent / 'built'}",
    ) as job:
        codes = job.end(60)
        ended = time.time()
        said = [path.read_text() for path in job.said]
    assert None not in codes, said
    assert 0 not in codes, said
    assert (tmp_path / "failed").exists(), said
    assert ended - (tmp_path / "failed").stat().st_mtime < SECONDS + 10
    wanted = {
        "raises": r"failed: on purpose",
        "is killed": r"has ended without a word",
        "hangs": r"\(in fail, .*\) does not answer",
        "is stopped": "does not answer: a signal has stopped it",
    }
    name = rf"rank {rank} \(process {job.ranks[rank].pid} on \S+\)"
    assert re.search(rf"error: (rank \d ends .*)?{name} {wanted[what]}", said[1 - rank]), said[1 - rank]
    run = tmp_path / "runs" / "it"
    if stage == "data":
        assert not run.exists(), "it came to nothing, and its name is free"
    elif rank == 1:
        assert json.loads((run / "result.json").read_text())["finished"] is False


if __name__ == "__main__":
    folder, rank, stage, what, *arguments = sys.argv[1:]
    sys.argv[1:] = ["tiny", *arguments]
    _run(Path(folder), int(rank), stage, what)
