"""Reads regular files only, and writes files so that they are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from golf_fast.errors import InputError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EACCES, errno.EPERM, errno.EBADF, errno.ENOSYS)
"""Error numbers of file systems that do not support fsync."""


def open_regular(path: Path, needed: str) -> io.BufferedReader:
    """Open a regular file for reading; folders, pipes and devices are refused without blocking.

    Args:
        path: path of the file.
        needed: end of error messages, such as "a token shard is needed".

    Raises:
        InputError: the file is missing, may not be read, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENXIO:
            raise InputError(f"{path}: is a socket or a pipe, not a file; {needed}") from error
        raise InputError(f"{path}: cannot be read ({reason(error)}); {needed}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
            raise InputError(f"{path}: is {kind}, not a file; {needed}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, needed: str, most: int | None = None) -> bytes:
    """The whole content of a file.

    Args:
        path: path of the file.
        needed: end of error messages.
        most: greatest size in bytes; None: any.

    Raises:
        InputError: as `open_regular`; or the file is larger than `most` or than the memory, or reading it fails.
    """
    with open_regular(path, needed) as file:
        try:
            # No more than there is, where that is known: a reader takes the memory for what it is asked for first.
            size = os.fstat(file.fileno()).st_size or sys.maxsize
            content = file.read() if most is None else file.read(min(size, most) + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)}); {needed}") from error
        except MemoryError:
            raise InputError(f"{path}: has {size:,} bytes, more than there is memory for; {needed}") from None
    if most is not None and len(content) > most:
        raise InputError(f"{path}: is larger than {most:,} bytes; {needed}")
    return content


def reason(error: BaseException) -> str:
    """The reason of an error, without the path, which the message names already."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def new_neighbour(path: Path) -> Path:
    """A unique path for a hidden temporary file or folder in the folder of `path`."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}")


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file in the folder of `path` for writing, and rename it to `path` if the block succeeds.

    A reader never sees a partial file, an error in the block leaves an existing `path` untouched, and after the block
    the file is on the disk, as far as the file system can tell.

    Raises:
        InputError: the folder cannot be made or written, or its disk is full.
    """
    # A file name that is not UTF-8 may be part of a text; it must not end a run.
    as_text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = new_neighbour(path)
        # Created with the user's default mode for new files, so that it need not be changed afterwards.
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); a folder that can is needed") from error
    try:
        with _named(path), open(descriptor, mode, **as_text) as file:
            yield file
            file.flush()
            _sync(file.fileno())
        with _named(path):
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn OSErrors of the block into InputErrors that name the file."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(path)):  # an error of another file, which the block reads
            raise
        raise InputError(f"{path}: cannot be written ({reason(error)}); a disk with room is needed") from error


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write all bytes to an unbuffered file, whose `write` may write a part only, as on a disk that becomes full.

    Raises:
        OSError: the disk is full, or writing fails otherwise.
    """
    while content:
        content = content[file.write(content) :]


def _sync(descriptor: int) -> None:
    """Wait until a file is on the disk, if its file system supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    with contextlib.suppress(OSError):  # the file itself is complete, and some systems cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


Holder = Literal["us", "another", "nobody"]


@contextmanager
def locked(path: Path) -> Iterator[Holder]:
    """Try to hold the lock of a file or folder while the block runs; the system releases it if the process dies.

    Yields:
        The holder: "us", "another" process, or "nobody" if the file does not exist or its file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield "nobody"
        return
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> Holder:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another"
    except (ImportError, OSError):
        return "nobody"
    return "us"


def sha256(path: Path, needed: str = "a file is needed") -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        InputError: as `read_bytes`.
    """
    with open_regular(path, needed) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)}); {needed}") from error
