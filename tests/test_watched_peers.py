"""A rank that fails, is killed, hangs or is stopped ends all ranks in a time that has a bound, and is named."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.ranks import Job

import golf_fast
from golf_fast import watched_peers as peers
from golf_fast.distributed import Ranks
from golf_fast.peers import VARIABLE
from golf_fast.watched_peers import Place, WatchedPeers

SECONDS = 2.0
"""How long a rank waits for another here."""


def _work(what: str, gone: int) -> None:
    """Be a rank that fails in some way, or one that waits for it, or one that is busy meanwhile."""
    peers._GRACE_SECONDS, peers._LOOK_SECONDS, peers._END_SECONDS = 2.0, 0.1, 1.0
    with Ranks.from_environment("cpu", peers=WatchedPeers) as ranks:
        ranks.barrier()
        if ranks.rank == gone:
            fail(what)
        if what.endswith("while nobody waits"):
            busy()
        ranks.barrier()


def fail(what: str) -> None:
    if what.startswith("raises"):
        raise ValueError("something of two\nlines")
    if what.startswith("stops"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if what.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what.startswith("ends"):
        os._exit(0)
    busy()


def busy() -> None:
    time.sleep(1000)


SAYS = {
    "raises": r"rank {gone} \(process {pid} on \S+\) failed: something of two\\nlines",
    "killed": r"rank {gone} \(process {pid} on \S+\) has ended without a word; it may have been killed",
    "ends": r"rank {gone} \(process {pid} on \S+\) has ended without a word; it may have been killed",
    "stops": r"rank {gone} \(process {pid} on \S+\) does not answer: a signal has stopped it",
    "hangs": r"rank {gone} \(process {pid} on \S+\) \(in busy, \S+test_watched_peers\.py:\d+\) does not answer: it has "
    r"stopped, hangs, or has ended \(",
}


@pytest.mark.parametrize("gone", [0, 2])
@pytest.mark.parametrize("what", SAYS)
def test_a_rank_that_fails_ends_all_with_its_name(
    start_ranks: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, what: str, gone: int
) -> None:
    monkeypatch.setenv(VARIABLE, str(SECONDS))
    with start_ranks(__file__, 3, what, gone) as job:
        codes = job.end(SECONDS + 10 + 5)  # and what it takes to begin
        said = [path.read_text() for path in job.said]
        wanted = SAYS[what].format(gone=gone, pid=job.ranks[gone].pid)
    assert None not in codes, said
    for rank, (code, words) in enumerate(zip(codes, said, strict=True)):
        if rank != gone:
            assert code == 1, words
            if gone or what not in ("hangs", "stops"):  # the store goes with rank 0, and what is known of it may too
                assert re.search(f"StoppedError: {wanted}", words), words
            else:
                assert re.search(r"StoppedError: .*rank 0", words), words
    if what == "hangs":
        assert codes[gone] == -signal.SIGTERM
        assert f"error: rank {gone} ends (in busy, " in said[gone]


@pytest.mark.parametrize("what", ["raises", "stops"])
def test_torchrun_ends_too(what: str) -> None:
    """Its agent holds the store, and ends the ranks that still run when one has ended."""
    places = [str(Path(golf_fast.__file__).parents[1]), str(Path(__file__).parent)]
    environment = os.environ | {VARIABLE: "2", "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*agent, __file__, what, "1"], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    # Of a rank that fails it has the whole story, and names it.
    wanted = {"raises": r"(?s)something of two.*local_rank: 1", "stops": SAYS["stops"].format(gone=1, pid=r"\d+")}
    assert re.search(wanted[what], done.stderr), done.stderr


def test_a_rank_that_is_busy_by_itself_ends_when_another_does(
    start_ranks: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1000")
    with start_ranks(__file__, 2, "killed while nobody waits", 1) as job:
        assert job.end(20) == [-signal.SIGTERM, -signal.SIGKILL]
        said = job.said[0].read_text()
    assert re.search(r"error: rank 0 ends \(in busy, .*rank 1 .* has ended without a word", said), said


def test_ranks_that_end_well_at_their_own_time_are_left_alone(
    start_ranks: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom golf_fast import watched_peers as peers\n"
        "from golf_fast.distributed import Ranks\n"
        "peers._LOOK_SECONDS = 0.05\npeers._END_SECONDS = 0.1\n"
        "with Ranks.from_environment('cpu', peers=peers.WatchedPeers) as ranks:\n    ranks.barrier()\n"
        "    time.sleep(1.5 * ranks.main)\n"
    )
    with start_ranks(script, 2) as job:
        assert job.end(20) == [0, 0], [path.read_text() for path in job.said]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_state_of_a_process_is_seen_on_its_machine_only() -> None:
    here = Place.here()
    assert here.state(here.machine) in "RS"
    assert here.state("another") == "?"
    assert here._replace(machine="").state("") == "?"
    assert here._replace(started="1").state(here.machine) == "", "its number was given to another process"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = peers._status(process.pid)[1]
        there = Place(process.pid, here.host, here.machine, started)
        assert there.state(here.machine) in "RSD"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert there.state(here.machine) == "", "it has ended, and its parent has not asked yet"


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]))
