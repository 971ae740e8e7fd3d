"""A server that serves a folder as a hub does."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from golf_fast.data import read_shard, write_shard
from golf_fast.files import locked


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder as a hub does: ranges, entity tags, and whatever a test scripts.

    Attributes:
        breaking: file -> bytes after which an answer breaks off, once; or -n - 1, and nothing after byte n ever comes.
        scripted: file -> answers that come first, each a status and headers.
        tagged, linked: whether the server gives entity tags, and those of the hub that are hashes.
        heads: whether it answers HEAD.
        asked: method, file and Range of each request.
        tokens: the Authorization of each.
        commit: of the repository, "" for a server that has none.
    """

    breaking: dict[str, int]
    scripted: dict[str, list[tuple[int, dict[str, str]]]]
    tagged: bool
    linked: bool
    heads: bool
    asked: list[tuple[str, str, str]]
    tokens: list[str | None]
    commit: str

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        name = self.path.rsplit("/", 1)[-1]
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range", "")
        self.asked.append((self.command, name, wanted))
        self.tokens.append(self.headers.get("Authorization"))
        if not body and not self.heads:
            self.send_error(501)
            return
        if body and self.scripted.get(name):
            status, headers = self.scripted[name].pop(0)
            self.send_response(status, headers.pop("reason", None))
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        tag = f'"{found}"'
        fresh = not self.tagged or self.headers.get("If-Range") == tag
        start = int(wanted[6:-1]) if wanted and fresh else 0
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.tagged:
            self.send_header("ETag", tag)
        if self.linked:
            self.send_header("X-Linked-Etag", tag)
        if self.commit:
            self.send_header("X-Repo-Commit", self.commit)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            limit = self.breaking.get(name, len(content))
            if limit >= 0:
                self.breaking.pop(name, None)
            self.wfile.write(content[start : start + limit if limit >= 0 else -limit - 1])

    def log_message(self, *_: object) -> None:
        pass


def asked(method: str = "GET") -> list[tuple[str, str]]:
    """Files and ranges that were asked for."""
    return [(name, wanted) for how, name, wanted in Handler.asked if how == method]


HELD = ExitStack()


@contextmanager
def locked_file(lock: Path) -> Iterator[None]:
    """Another download's lock, until `release` gives it back."""
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    with HELD:
        assert HELD.enter_context(locked(lock)) == "us"
        yield


def release() -> None:
    HELD.close()


WAITED: list[float] = []
"""Seconds that the program under test would have slept."""


def change(remote: Path, name: str) -> list[int]:
    """Another file of the same size under the same name."""
    path = remote / "datasets" / "fineweb10B_sp320" / name
    tokens = read_shard(path)[::-1].tolist()
    write_shard(path, tokens)
    return tokens


COMMIT = "c0ffee" + "0" * 34
