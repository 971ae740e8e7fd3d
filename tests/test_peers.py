"""A rank that is waited for in vain is named, in a time that has a bound."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.ranks import free_port

from golf_fast import peers
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError, StoppedError
from golf_fast.peers import Peers


def _work(what: str, folder: Path) -> None:
    """Be a rank that stops, ends, or waits for the one that did."""
    os.environ[peers.VARIABLE] = "1"
    peers._GRACE_SECONDS = 0.5
    ranks = Ranks.from_environment("cpu")
    ranks.barrier()
    gone = 0 if what == "first ends" else 1
    if ranks.rank == gone:
        (folder / "pid").write_text(str(os.getpid()))
        if what == "hangs":
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        ranks.barrier()
    except StoppedError as error:
        (folder / "said").write_text(str(error))
    if what == "hangs":
        os.kill(int((folder / "pid").read_text()), signal.SIGCONT)
    os._exit(0)


@pytest.mark.parametrize(("what", "gone"), [("hangs", 1), ("ends", 1), ("first ends", 0)])
def test_a_rank_that_hangs_or_ends_is_named(
    run_ranks: Callable[..., None], tmp_path: Path, what: str, gone: int
) -> None:
    run_ranks(__file__, 2, what, tmp_path)
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"rank {gone}")
    assert "does not answer: it has stopped, hangs, or has ended (" in said
    assert "\n" not in said
    if gone == 1:
        assert f"(process {(tmp_path / 'pid').read_text()} on " in said


def test_a_rank_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.VARIABLE, "0.3")
    with pytest.raises(StoppedError, match=r"^rank 1, rank 2 of 3 did not come within 0\.3 s; GOLF_FAST_PEER_SECONDS"):
        Peers(0, 3, "127.0.0.1", free_port())


def test_a_store_that_nobody_opens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.VARIABLE, "0.3")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    port = free_port()
    with pytest.raises(StoppedError, match=rf"ranks at 127\.0\.0\.1:{port}: rank 0 did not open it within 0\.3 s"):
        Peers(1, 2, "127.0.0.1", port)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_time_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(peers.VARIABLE, text)
    with pytest.raises(InputError, match=f"{peers.VARIABLE} is '{text}': it must be a number of seconds"):
        Peers(0, 2, "127.0.0.1", 1)


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="MASTER_PORT is "):
        Ranks.from_environment("cpu")


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]))
