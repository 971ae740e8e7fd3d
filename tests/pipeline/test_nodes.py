"""torchrun itself: two machines of one rank each are one machine of two, and ranks that it starts again go on."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import bare_run
from helpers.ranks import free_port
from helpers.small_run import SMALL, text

import golf_fast
from golf_fast.json_files import read_object
from golf_fast.runs import FinishedRun

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SAME = ("val_loss", "val_bpb", "bpb_before_compression", "artifact_bytes", "world_size", "steps")
KILLED_ONCE = f"""
import os, runpy, signal
from golf_fast.train import Trainer
step, done = Trainer.step, []
def stepped(self, *arguments):
    done.append(step(self, *arguments))
    if len(done) == 4 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and self.ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return done[-1]
Trainer.step = stepped
runpy.run_path({bare_run.__file__!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> Path:
    """A run of two ranks on one machine; beside it lie the text and what was built of it."""
    folder = tmp_path_factory.mktemp("nodes")
    run_ranks(str(bare_run.__file__), 2, *arguments(folder, text(folder), "one"))
    return folder / "runs" / "one"


def arguments(folder: Path, documents: Path, name: str) -> list[str]:
    places = [f"--data.text={documents}", f"--data.built={folder / 'built'}", f"--runs-dir={folder / 'runs'}"]
    return ["tiny", *SMALL, *places, f"--run-id={name}"]


def start(*command: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment["GOLF_FAST_PEER_SECONDS"] = "60"
    return subprocess.Popen(
        [*TORCHRUN, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def require_equal(one: Path, other: Path) -> None:
    results = [read_object(run / "result.json", "it") for run in (one, other)]
    assert results[0]["world_size"] == 2
    for name in SAME:
        assert results[0][name] == results[1][name], name
    losses = [[each["loss"] for each in FinishedRun(run).records() if each["kind"] == "step"] for run in (one, other)]
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    for name in ("token_losses", "artifact.golf", "ledger.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_two_machines_are_one_with_as_many_ranks(one: Path) -> None:
    folder = one.parents[1]
    agent = [
        *("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}"),
        *("--rdzv-id=it", "--local-addr=127.0.0.1", str(bare_run.__file__)),
        *arguments(folder, folder / "text.jsonl", "two"),
    ]
    with start(*agent) as first, start(*agent) as second:
        said = [each.communicate(timeout=200)[0] for each in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    require_equal(one, one.with_name("two"))


def test_ranks_that_are_started_again_go_on_from_the_checkpoint(one: Path) -> None:
    folder = one.parents[1]
    script = folder / "killed_once.py"
    script.write_text(KILLED_ONCE)
    agent = ["--standalone", "--nproc-per-node=2", "--max-restarts=1", str(script)]
    with start(*agent, *arguments(folder, folder / "text.jsonl", "again"), "--train.checkpoint-every=1") as job:
        said = job.communicate(timeout=200)[0]
    assert job.returncode == 0, said
    require_equal(one, one.with_name("again"))
    assert read_object(one.with_name("again") / "result.json", "it")["resumed"] == 1
