"""A watchdog for ranks: when one rank ends, all others end within a bounded time and report which one it was."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import platform
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

from golf_fast.errors import StoppedError, printable
from golf_fast.peers import MEETING_SECONDS, Peers, unanswered

_GRACE_SECONDS = 5.0
"""Seconds by which ranks may differ in noticing that one is missing."""
_LOOK_SECONDS = 0.5
"""Seconds between two checks of the other ranks."""
_END_SECONDS = 3.0
"""Seconds that a rank may continue after the run has failed, before it is asked to end; it is killed `_GRACE_SECONDS`
later."""


class Place(NamedTuple):
    """The identity of a rank's process, which its peers are told."""

    process: int
    host: str
    machine: str
    """Equal for processes that can see each other by process id; "" if unknown."""
    started: str
    """Start time of the process in ticks of its machine, since its id may be reused later."""

    @staticmethod
    def here() -> Place:
        """The place of this process."""
        machine = started = ""
        with contextlib.suppress(OSError):  # not on Linux
            boot = _text("/proc/sys/kernel/random/boot_id")
            machine = f"{boot}/{os.readlink('/proc/self/ns/pid')}"
            started = _status(os.getpid())[1]
        return Place(os.getpid(), platform.node(), machine, started)

    def state(self, machine: str) -> str:
        """The state of the process in Linux's notation (R, S, T, ...), as seen from `machine`.

        It is "" if the process has ended, and "?" if it cannot be seen from there.
        """
        if not self.machine or self.machine != machine:
            return "?"
        try:
            state, started = _status(self.process)
        except (OSError, IndexError):
            return ""
        return "" if started != self.started or state in "ZX" else state


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _status(process: int) -> tuple[str, str]:
    """State and start time of a process."""
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return fields[0], fields[19]


class WatchedPeers(Peers):
    """The other ranks of a run, watched by a thread.

    The thread checks notes in the store and processes on this machine. If the run has failed, because a rank reported a
    failure, its process is gone, or a collective timed out, the thread ends this process, unless the main thread
    notices it and ends by itself. A rank that ends without `close` or a normal exit of the interpreter counts as lost.

    Arguments and errors are those of `Peers`.
    """

    def __init__(self, rank: int, world_size: int, address: str, port: int) -> None:
        super().__init__(rank, world_size, address, port)
        self._closed = threading.Event()
        self._noticed = threading.Event()
        self._culprit: str | None = None
        self._hanging: dict[int, str] = {}
        told = (self.store.get(f"here/{other}").decode().split("\t") for other in range(world_size))
        self._places = {
            other: Place(int(process), host, machine, started)
            for other, (process, host, machine, started) in enumerate(told)
        }
        # A separate connection, as one that waits for a note blocks all other requests.
        notes = self.open(address, port, MEETING_SECONDS)
        self._thread = threading.Thread(target=self._watch, args=(notes,), name="peers", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def about(self) -> str:
        return "\t".join(map(str, Place.here()))

    def _name(self, rank: int) -> str:
        place = self._places.get(rank)
        return f"rank {rank} (process {place.process} on {place.host})" if place else f"rank {rank}"

    def lost(self, error: RuntimeError) -> StoppedError:
        """The error to raise after a failed collective: it names the rank that ended, and why, or does not respond."""
        self._noticed.set()
        said = str(error).partition("\n")[0]
        absent = [rank for rank in range(self.world_size) if rank != self.rank]
        culprit = self._without_a_word(0) if self.with_rank_0 and self._state(0) == "T" else None
        try:
            if culprit is not None:  # the store does not respond either
                raise RuntimeError(culprit)
            self.store.set(f"noticed/{self.rank}", "yes")
            self.store.set("vain", self._name(self.rank))
            end = time.monotonic() + _GRACE_SECONDS
            while absent and time.monotonic() < end and (culprit := self._look(self.store)) is None:
                absent = [rank for rank in absent if not self._has(f"noticed/{rank}")]
                time.sleep(0.05)
            self._end_the_stopped(absent)
            self._linger()
        except RuntimeError:  # the store went with its holder
            culprit = culprit or self._culprit or self._without_the_store()
            self._kill_if_stopped(0)
        if culprit is not None:
            return StoppedError(culprit)
        return unanswered([self._name(rank) + self._hanging.get(rank, "") for rank in absent], said)

    def failed(self, error: BaseException) -> None:
        """Tell the other ranks why this rank ends."""
        if isinstance(error, StoppedError) and self._noticed.is_set():
            return  # another rank has failed
        self._noticed.set()
        said = printable(error)[:1000] or type(error).__name__
        with contextlib.suppress(RuntimeError):
            self.store.set(f"failed/{self.rank}", f"{self._name(self.rank)} failed: {said}")
            self._linger()

    def close(self) -> None:
        if not self._closed.is_set():
            with contextlib.suppress(RuntimeError):
                self.store.set(f"closed/{self.rank}", "yes")
        self._closed.set()
        self._thread.join(timeout=2 * _LOOK_SECONDS)

    def _at_exit(self) -> None:
        """Leave the run when the program ends normally."""
        if self._noticed.is_set() or hasattr(sys, "last_value"):
            self._closed.set()
        else:
            self.close()

    def _look(self, store: Any) -> str | None:
        """A sentence on a rank that failed, or on one of this machine that ended or was stopped without a report."""
        others = [rank for rank in self._places if rank != self.rank]
        for rank in others:
            if store.check([f"failed/{rank}"]):
                return str(store.get(f"failed/{rank}").decode())
            if rank not in self._hanging and store.check([f"hangs/{rank}"]):
                self._hanging[rank] = str(store.get(f"hangs/{rank}").decode())
        for rank in others:
            found = self._without_a_word(rank)
            # One that is stopped may continue, until somebody has waited for it too long.
            if found and self._state(rank) == "T" and not store.check(["vain"]):
                continue
            if found and not store.check([f"closed/{rank}"]) and not store.check([f"noticed/{rank}"]):
                return found
        return None

    def _without_a_word(self, rank: int) -> str | None:
        """A sentence on a rank of this machine whose process has ended or stopped without a report."""
        state = self._state(rank)
        if not state and rank not in self._hanging:
            return f"{self._name(rank)} has ended without a word; it may have been killed"
        return f"{self._name(rank)} does not answer: a signal has stopped it" if state == "T" else None

    def _without_the_store(self) -> str:
        """A sentence on the host of the store after the store is lost."""
        end = time.monotonic() + 2 * _LOOK_SECONDS
        while self.with_rank_0 and time.monotonic() < end:
            if (found := self._without_a_word(0)) is not None:
                return found
            time.sleep(0.05)
        return f"{self._name(0) if self.with_rank_0 else 'the launcher'} has ended, and the store of the ranks with it"

    def _state(self, rank: int) -> str:
        return self._places[rank].state(self._places[self.rank].machine) if rank in self._places else "?"

    def _linger(self) -> None:
        """Wait until the others have read the notes, before the store ends with this rank."""
        if self.with_rank_0 and self.rank == 0:
            time.sleep(3 * _LOOK_SECONDS)

    def _end_the_stopped(self, ranks: list[int]) -> None:
        """Leave a note on each rank of this machine that a signal has stopped, and kill it."""
        for rank in ranks:
            if self._state(rank) == "T":
                self.store.set(f"failed/{rank}", str(self._without_a_word(rank)))
                self._kill_if_stopped(rank)

    def _kill_if_stopped(self, rank: int) -> None:
        if self._state(rank) == "T":  # a stopped process reacts to no other signal
            with contextlib.suppress(OSError):
                os.kill(self._places[rank].process, signal.SIGKILL)

    def _watch(self, store: Any) -> None:
        """Check the notes until the run has failed, then make this process end."""
        vain = False
        while self._culprit is None and not vain:
            # Outside this interpreter: it ends a process whose main thread never releases the interpreter lock.
            _end_later(self.exchange.total_seconds() + _GRACE_SECONDS + _END_SECONDS)
            try:
                self._culprit = self._look(store)
                vain = bool(store.check(["vain"]))
            except RuntimeError:
                self._culprit = self._without_the_store()
            if self._closed.wait(_LOOK_SECONDS):
                break
        _end_later(None)
        # The main thread will probably notice the failure in a collective, and can report more.
        if self._closed.wait(_END_SECONDS):
            return
        if not self._noticed.is_set():
            self._say_where(store)
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._closed.wait(_GRACE_SECONDS):
            os._exit(1)

    def _say_where(self, store: Any) -> None:
        """Report that this rank ends, to people and to a rank that waits for it."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        where = f" (in {frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno})" if frame else ""
        with contextlib.suppress(OSError, ValueError):
            print(
                f"error: rank {self.rank} ends{where}: {self._culprit or 'it is waited for in vain'}", file=sys.stderr
            )
            faulthandler.dump_traceback()
        if self._culprit is None:
            with contextlib.suppress(RuntimeError):
                store.set(f"hangs/{self.rank}", where)


def _end_later(seconds: float | None) -> None:
    """Print the stack of this process and end it after `seconds`, even if no Python code runs; None: cancel that."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
        faulthandler.cancel_dump_traceback_later()
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
