"""Output, signals and exit codes of the programs of this package.

A failure to print never ends a run: if a terminal is closed, the disk behind `>` is full, the reader of a pipe has gone
or an encoding lacks a character, only the rest of the output is lost.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import IO, Any, NoReturn, TextIO, cast

from golf_fast.errors import InputError, StoppedError, printable

_LEAST_COLUMNS = 20
_NO_PATH = (errno.ENAMETOOLONG, errno.EACCES)
"""Error numbers of a system call that cannot tell whether a file exists."""


class Stream(io.TextIOBase):
    """A text stream that is abandoned at its first failure: later writes do nothing, and no write raises OSError.

    Attributes:
        lost: why it was abandoned; None while it works.

    Args:
        under: the stream to write to; None (as Python has it for a closed descriptor): it is abandoned from the start.
    """

    def __init__(self, under: IO[str] | None) -> None:
        self._under = under
        self.lost: Exception | None = None if under is not None else OSError("it is closed")
        if isinstance(under, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                under.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        if text and self._under is not None and self.lost is None:
            try:
                self._under.write(text)
            except UnicodeEncodeError:  # the stream could not be configured to escape what it cannot encode
                self.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._under is not None and self.lost is None:
            try:
                self._under.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Redirect the descriptor to the null device, or the interpreter reports an error when it flushes at exit."""
        self.lost = error
        assert self._under is not None
        with contextlib.suppress(OSError, ValueError):
            descriptor = self._under.fileno()
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, descriptor)
            if nothing != descriptor:
                os.close(nothing)
            self._under.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self._under is not None and self.lost is None and self._under.isatty()
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._under is None:
            raise io.UnsupportedOperation("fileno")
        return self._under.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._under, "encoding", None) or "utf-8")

    @property
    def errors(self) -> str:  # type: ignore[override]
        return str(getattr(self._under, "errors", None) or "backslashreplace")

    @property
    def buffer(self) -> Any:
        return getattr(self._under, "buffer", None)

    def close(self) -> None:
        """Do not close the underlying stream, which belongs to the interpreter."""


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Stream, Stream]]:
    """Replace `sys.stdout` and `sys.stderr` by `Stream`s while the block runs."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, err = Stream(before[0]), Stream(before[1])
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Open the null device on closed standard descriptors, which the next opened file would take otherwise."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received: the program ends as after Ctrl-C, and saves its state.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


_SIGNALS = ("SIGTERM", "SIGHUP")
"""Signals that are treated like Ctrl-C, if the system has them."""
HANG_SECONDS = 25.0
"""Seconds within which a rank of several must end after a signal; torchrun kills it after 30."""
_ONE_PRESS_SECONDS = 1.0
"""Seconds within which several signals count as one: a terminal that closes sends two, and so may a launcher."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Terminated` while the block runs; a signal that is ignored (nohup) stays ignored.

    Further signals are ignored for a second, since a terminal that closes sends two. Ranks other than the first, which
    write no files, end at once. A rank that is blocked in a collective, where no Python code runs, is ended after
    `HANG_SECONDS`.
    """
    previous: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        for which in previous:
            signal.signal(which, signal.SIG_IGN)
        raise Terminated(number)

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and os.environ.get("RANK", "0") == "0":
        for name in _SIGNALS:
            which = getattr(signal, name, None)  # some systems lack one
            if which is not None and signal.getsignal(which) == signal.SIG_DFL:
                previous[which] = signal.signal(which, stop)
    several = in_main and os.environ.get("WORLD_SIZE", "1") != "1"
    try:
        with _ending_within(HANG_SECONDS) if several else contextlib.nullcontext():
            yield
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


@contextlib.contextmanager
def _ending_within(seconds: float) -> Iterator[None]:
    """End the process `seconds` after a signal with a Python handler, whatever the main thread is waiting for."""
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    ends = {int(getattr(signal, name)) for name in ("SIGINT", *_SIGNALS) if hasattr(signal, name)}

    def watch() -> None:
        while said := os.read(receiving, 1):
            if said[0] in ends:
                if not done.wait(seconds):
                    os._exit(128 + said[0])
                return

    done = threading.Event()
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(sending)
        watcher.join()
        os.close(receiving)


class Deferral:
    """A received signal that is deferred to the end of a step.

    Attributes:
        number: number of the signal; 0: none was received.
        holding: whether the next signal is deferred; otherwise it ends the program at once.
    """

    def __init__(self) -> None:
        self.number = 0
        self.holding = False

    def end(self, number: int = 0) -> NoReturn:
        """End the program as the signal would have.

        Args:
            number: number of the signal, if another process received it.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            Terminated: after another signal.
        """
        self.holding = False
        number = self.number or number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def deferred() -> Iterator[Deferral]:
    """Defer the first Ctrl-C, SIGTERM or SIGHUP while the block runs and `Deferral.holding` is set.

    A second signal ends the program at once. Every rank does this.
    """
    deferral = Deferral()
    previous: dict[int, Any] = {}
    came = 0.0

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if deferral.holding and not deferral.number:
            deferral.number, came = number, time.monotonic()
        elif not deferral.number or time.monotonic() - came > _ONE_PRESS_SECONDS:
            handler = previous[number]
            signal.signal(number, handler)
            if callable(handler):
                handler(number, frame)
            else:
                os.kill(os.getpid(), number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", *_SIGNALS):
            which = getattr(signal, name, None)
            if which is not None and signal.getsignal(which) not in (signal.SIG_IGN, None):
                previous[which] = signal.signal(which, take)
    try:
        yield deferral
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


def say(text: str = "") -> None:
    """Print text with control characters escaped, as it may contain names from files or servers."""
    print(printable(text, keep="\n\t"), flush=True)


def as_meant(word: str) -> str:
    """An argument with `~` after `=` expanded, which most shells do not do, and without a trailing carriage return,
    which comes from a script with other line ends."""
    word = word.rstrip("\r")
    name, equals, value = word.partition("=")
    if equals and (value == "~" or value.startswith("~/")):
        return f"{name}={os.path.expanduser(value)}"
    return word


def exit_with(main: Callable[[], None], *, prints: bool = True) -> NoReturn:
    """Run `main` and exit: with code 2 and one line on stderr after an `InputError`, 1 after a `StoppedError`, 128 + n
    after signal n (130 after Ctrl-C).

    If the output is the purpose of the program, losing it is a failure with exit code 1: silently if the reader of a
    pipe has gone (`| head`), else with the reason on stderr.

    Args:
        main: the program.
        prints: whether its output is its purpose, and not its files.
    """
    sys.argv[1:] = map(as_meant, sys.argv[1:])
    if shutil.get_terminal_size().columns < _LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(_LEAST_COLUMNS)  # with fewer, tyro loops for ever to find a line break
    with guarded() as (out, err), interruptible():
        code = _run(main)
        out.flush()
        if prints and out.lost is not None and code == 0:
            code = 1
            if not isinstance(out.lost, BrokenPipeError):
                reason = out.lost.strerror if isinstance(out.lost, OSError) else None
                err.write(f"error: standard output: cannot be written ({reason or out.lost})\n")
    sys.exit(code)


def _run(main: Callable[[], None]) -> int:
    try:
        main()
    except InputError as error:
        print(f"error: {printable(error)}", file=sys.stderr, flush=True)
        return 2
    except StoppedError as error:
        print(f"error: {printable(error)}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Terminated) else signal.SIGINT
        print("interrupted" if number == signal.SIGINT else f"interrupted: {stop}", file=sys.stderr, flush=True)
        return 128 + number
    except OSError as error:
        # A path that cannot be queried; code that reads and writes files reports its own errors.
        if error.errno not in _NO_PATH or error.filename is None:
            raise
        name = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else error.filename
        print(f"error: {name}: cannot be read ({error.strerror})", file=sys.stderr, flush=True)
        return 2
    return 0
