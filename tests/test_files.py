"""Files are read only where they are files, and are whole or not there."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing, sha256


def make(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_file_is_refused_and_not_waited_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    make(Path("it"), kind)
    for read in (read_bytes, sha256):
        with pytest.raises(InputError, match=rf"^it: is a .*{kind}.*; a text is needed$"):
            read(Path("it"), "a text is needed")


def test_what_is_missing_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file or directory\); a text"):
        read_bytes(tmp_path / "none", "a text is needed")
    with pytest.raises(InputError, match=r"a\\x00b|embedded null"):
        read_bytes(Path("a\0b"), "a text is needed")
    (tmp_path / "large").write_bytes(b"12345")
    assert read_bytes(tmp_path / "large", "it is needed", most=5) == b"12345"
    with pytest.raises(InputError, match=r"large: is larger than 4 bytes; it is needed"):
        read_bytes(tmp_path / "large", "it is needed", most=4)


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0o022, 0o644)])
def test_modes_follow_the_umask_and_nothing_is_changed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, mode: int
) -> None:
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("some file systems refuse it"))
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "file", "w") as file:
            file.write("text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), rename(self, to))[1])
    with replacing(tmp_path / "file") as file:
        file.write(b"content")
    first, renamed, last = events
    assert Path(first).name.startswith(".file.")
    assert (renamed, last) == ("rename", str(tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_a_disk_that_fails_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "file").write_text("before")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    says = rf"file: cannot be written \({os.strerror(number)}\)"
    with pytest.raises(InputError, match=says), replacing(tmp_path / "file") as file:
        file.write(b"after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_folder_that_cannot_be_written_is_one_line_that_asks_for_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program may take none: the page of a run goes beside what it is made of."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(InputError, match=r"page: cannot .* \(Read-only file system\); a folder that can is needed$"),
        replacing(tmp_path / "page"),
    ):
        pass


def test_a_file_system_that_cannot_sync_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with replacing(tmp_path / "file", "w") as file:
        file.write("text \udce9")
    assert (tmp_path / "file").read_text() == "text \\udce9"


def test_an_error_of_another_file_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file") as file:
        file.write((tmp_path / "nowhere").read_bytes())
    assert not list(tmp_path.iterdir())
