"""How all ranks of a run end when one does, in a time that has a bound, and say which it was."""

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
"""How much later than the first another rank may notice that somebody is missing."""
_LOOK_SECONDS = 0.5
"""Between two looks at the others."""
_END_SECONDS = 3.0
"""How long a rank may go on after it is known that the run cannot, before it is asked to end; it is ended
`_GRACE_SECONDS` later."""


class Place(NamedTuple):
    """Where a rank's process is, as its peers are told."""

    process: int
    host: str
    machine: str
    """Equal where processes can see each other by their numbers; "" where that is not known."""
    started: str
    """When the process was started, in ticks of its machine: another process may get its number later."""

    @staticmethod
    def here() -> Place:
        """This process's."""
        machine = started = ""
        with contextlib.suppress(OSError):  # no Linux
            boot = _text("/proc/sys/kernel/random/boot_id")
            machine = f"{boot}/{os.readlink('/proc/self/ns/pid')}"
            started = _status(os.getpid())[1]
        return Place(os.getpid(), platform.node(), machine, started)

    def state(self, machine: str) -> str:
        """The state of the process, as Linux writes it (R, S, T, ...), for one on `machine`.

        "" where it has ended, "?" where that cannot be seen from there.
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
    """State and start of a process."""
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return fields[0], fields[19]


class WatchedPeers(Peers):
    """The other ranks of a run, watched by a thread.

    It looks at notes in the store and at processes on this machine. Where the run cannot go on, for a rank has failed,
    its process is gone, or one waits in vain, it ends this process, unless the main thread has noticed by itself and
    does. A rank that ends without `close` or a normal end of the interpreter is taken for lost.

    Args and errors as of `Peers`.
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
        # A connection of its own: one that waits for a note lets nobody else ask.
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
        """What to raise after an exchange has failed: who ended, and why if it said so, else who does not answer."""
        self._noticed.set()
        said = str(error).partition("\n")[0]
        absent = [rank for rank in range(self.world_size) if rank != self.rank]
        culprit = self._without_a_word(0) if self.with_rank_0 and self._state(0) == "T" else None
        try:
            if culprit is not None:  # nor does the store answer
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
        """Tell the others what ends this rank."""
        if isinstance(error, StoppedError) and self._noticed.is_set():
            return  # it is another that failed
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
        """A program that ends well has left."""
        if self._noticed.is_set() or hasattr(sys, "last_value"):
            self._closed.set()
        else:
            self.close()

    def _look(self, store: Any) -> str | None:
        """A sentence on a rank that failed, or on one of this machine that ended or was stopped without a word."""
        others = [rank for rank in self._places if rank != self.rank]
        for rank in others:
            if store.check([f"failed/{rank}"]):
                return str(store.get(f"failed/{rank}").decode())
            if rank not in self._hanging and store.check([f"hangs/{rank}"]):
                self._hanging[rank] = str(store.get(f"hangs/{rank}").decode())
        for rank in others:
            found = self._without_a_word(rank)
            # One that is stopped may go on, until somebody has waited for it too long.
            if found and self._state(rank) == "T" and not store.check(["vain"]):
                continue
            if found and not store.check([f"closed/{rank}"]) and not store.check([f"noticed/{rank}"]):
                return found
        return None

    def _without_a_word(self, rank: int) -> str | None:
        """A sentence on a rank of this machine whose process has ended or stopped, and who did not say so."""
        state = self._state(rank)
        if not state and rank not in self._hanging:
            return f"{self._name(rank)} has ended without a word; it may have been killed"
        return f"{self._name(rank)} does not answer: a signal has stopped it" if state == "T" else None

    def _without_the_store(self) -> str:
        """A sentence on who held the store, now that it is gone."""
        end = time.monotonic() + 2 * _LOOK_SECONDS
        while self.with_rank_0 and time.monotonic() < end:
            if (found := self._without_a_word(0)) is not None:
                return found
            time.sleep(0.05)
        return f"{self._name(0) if self.with_rank_0 else 'the launcher'} has ended, and the store of the ranks with it"

    def _state(self, rank: int) -> str:
        return self._places[rank].state(self._places[self.rank].machine) if rank in self._places else "?"

    def _linger(self) -> None:
        """Let the others read the notes before the store goes with this rank."""
        if self.with_rank_0 and self.rank == 0:
            time.sleep(3 * _LOOK_SECONDS)

    def _end_the_stopped(self, ranks: list[int]) -> None:
        """Leave a note on each rank of this machine that a signal has stopped, and kill it."""
        for rank in ranks:
            if self._state(rank) == "T":
                self.store.set(f"failed/{rank}", str(self._without_a_word(rank)))
                self._kill_if_stopped(rank)

    def _kill_if_stopped(self, rank: int) -> None:
        if self._state(rank) == "T":  # no other signal would end it
            with contextlib.suppress(OSError):
                os.kill(self._places[rank].process, signal.SIGKILL)

    def _watch(self, store: Any) -> None:
        """Look at the notes until the run cannot go on, then see that this process ends."""
        vain = False
        while self._culprit is None and not vain:
            # Not of this interpreter: it ends a process whose main thread never lets go of that.
            _end_later(self.exchange.total_seconds() + _GRACE_SECONDS + _END_SECONDS)
            try:
                self._culprit = self._look(store)
                vain = bool(store.check(["vain"]))
            except RuntimeError:
                self._culprit = self._without_the_store()
            if self._closed.wait(_LOOK_SECONDS):
                break
        _end_later(None)
        # The main thread most likely sees the same in an exchange, and knows more to say.
        if self._closed.wait(_END_SECONDS):
            return
        if not self._noticed.is_set():
            self._say_where(store)
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._closed.wait(_GRACE_SECONDS):
            os._exit(1)

    def _say_where(self, store: Any) -> None:
        """That this rank ends, to people; where another waits for it, to that one too."""
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
    """Print where this process is and end it after `seconds`, even where no Python runs; None: do not."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
        faulthandler.cancel_dump_traceback_later()
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
