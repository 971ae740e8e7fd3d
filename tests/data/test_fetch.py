import errno
import hashlib
import io
import json
import shutil
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from email.message import Message
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import golf_fast.data.fetch as module
from golf_fast.data import Tokenizer, download, read_shard, write_shard
from golf_fast.data.download import About, Server
from golf_fast.data.fetch import Hub, fetch
from golf_fast.data.shards import find_shards, side_cars
from golf_fast.errors import InputError
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


@pytest.fixture
def remote(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """The files of a hub repository, laid out like the challenge's."""
    root = tmp_path / "remote" / "someone" / "repository" / "datasets"
    shards = root / "datasets" / "fineweb10B_sp320"
    for number in range(3):
        write_shard(shards / f"fineweb_train_{number:06d}.bin", range(1, 900 + number))
    write_shard(shards / "fineweb_val_000000.bin", range(1, 100))
    (root / "tokenizers").mkdir()
    (root / "tokenizers" / "small.model").write_bytes(tokenizer.path.read_bytes())
    manifest = {
        "datasets": [
            {"name": "fineweb10B_sp320", "stats": {"files_train": 3, "files_val": 1}, "tokenizer_name": "small"}
        ],
        "tokenizers": [{"name": "small", "model_path": "tokenizers/small.model"}],
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


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


@pytest.fixture
def hub(remote: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Handler.breaking, Handler.scripted, Handler.asked, Handler.tokens = {}, {}, [], []
    Handler.tagged, Handler.linked, Handler.heads, Handler.commit = True, False, True, ""
    monkeypatch.setattr(download.time, "sleep", WAITED.append)
    WAITED.clear()
    for name in ("HF_TOKEN", "HF_ENDPOINT", "MATCHED_FINEWEB_BASE_URL", "MATCHED_FINEWEB_REMOTE_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(remote.parents[2])))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "someone/repository")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield Hub.from_environment("sp320", f"http://127.0.0.1:{server.server_port}/{{repo}}/")
    server.shutdown()
    server.server_close()


def test_a_variant_comes_whole(hub: Hub, remote: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    folder, model = fetch(hub, "sp320", 2, out)
    assert (folder, model) == (out / "datasets" / "fineweb10B_sp320", out / "tokenizers" / "small.model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "fineweb_train_000000.bin",
        "fineweb_train_000001.bin",
        "fineweb_val_000000.bin",
    ]
    for path in (*folder.iterdir(), model):
        assert path.read_bytes() == (remote / path.relative_to(out)).read_bytes()


def test_text_without_capitals_comes_with_the_bytes_of_its_tokens(hub: Hub, remote: Path, tmp_path: Path) -> None:
    name = "fineweb10B_sp8192_lossless_caps_caseops_v1_reserved"
    shards = remote / "datasets" / "fineweb10B_sp320"
    shards.rename(remote / "datasets" / name)
    manifest = (remote / "manifest.json").read_text()
    (remote / "manifest.json").write_text(manifest.replace("fineweb10B_sp320", name))
    with pytest.raises(InputError, match=r"fineweb_val_bytes_000000\.bin"):
        fetch(hub, "sp8192_caseops", 1, tmp_path / "data")
    write_shard(remote / "datasets" / name / "fineweb_val_bytes_000000.bin", range(1, 100))
    folder, _ = fetch(hub, "sp8192_caseops", 1, tmp_path / "data")
    assert folder.name == name
    assert side_cars(find_shards(folder, "val")) == [folder / "fineweb_val_bytes_000000.bin"]


def test_what_is_there_stays_and_what_is_damaged_comes_again(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetch(hub, "sp320", 2, tmp_path / "data")
    damaged = folder / "fineweb_train_000001.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    Handler.asked.clear()
    fetch(hub, "sp320", 2, tmp_path / "data")
    assert asked() == [(damaged.name, "")]
    assert read_shard(damaged).size == 900


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = 1500
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert [wanted for file, wanted in asked() if file == name] == ["", "bytes=1500-"]
    assert WAITED == [1.0]
    assert read_shard(folder / name).tolist() == list(range(1, 900))


def test_a_part_that_lacks_nothing_is_taken(hub: Hub, remote: Path, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = -1501
    with pytest.raises(InputError, match=r"broke off .*; 1,500 bytes are kept"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    Handler.breaking.clear()
    folder = tmp_path / "data" / "datasets" / "fineweb10B_sp320"
    (folder / f".{name}.part").write_bytes((remote / "datasets" / "fineweb10B_sp320" / name).read_bytes())
    fetch(hub, "sp320", 1, tmp_path / "data")
    assert asked()[-1] == (name, "bytes=2822-")
    assert read_shard(folder / name).size == 899
    assert not list(folder.glob(".*"))


def test_a_download_that_gets_nowhere_is_an_error_and_can_be_taken_up(hub: Hub, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = -1
    with pytest.raises(InputError, match=rf"{name}: broke off \(0 of 2822 bytes came\)$"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    assert WAITED == [1.0, 2.0, 4.0, 8.0]
    assert not (tmp_path / "data" / "datasets" / "fineweb10B_sp320" / name).exists()
    Handler.breaking.clear()
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / name).size == 899


def change(remote: Path, name: str) -> list[int]:
    """Another file of the same size under the same name."""
    path = remote / "datasets" / "fineweb10B_sp320" / name
    tokens = read_shard(path)[::-1].tolist()
    write_shard(path, tokens)
    return tokens


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_changed_on_the_server_comes_again(hub: Hub, remote: Path, tmp_path: Path, linked: bool) -> None:
    Handler.linked = linked
    folder, _ = fetch(hub, "sp320", 2, tmp_path / "data")
    tokens = change(remote, "fineweb_train_000001.bin")
    Handler.asked.clear()
    fetch(hub, "sp320", 1, tmp_path / "data")
    assert asked() == [("fineweb_train_000001.bin", "")], "it is not asked for, but training would read it"
    assert read_shard(folder / "fineweb_train_000001.bin").tolist() == tokens


def test_a_part_of_a_file_that_changed_is_not_gone_on_with(hub: Hub, remote: Path, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = -1501
    with pytest.raises(InputError, match="broke off"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    tokens = change(remote, name)
    Handler.breaking.clear()
    Handler.asked.clear()
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / name).tolist() == tokens


def test_a_file_that_changes_between_two_answers_is_not_spliced(hub: Hub, remote: Path, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = 1500
    tokens: list[int] = []

    def changed(stage: str, *_: float) -> None:
        if "again" in stage:
            tokens.extend(change(remote, name))

    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data", changed)
    assert read_shard(folder / name).tolist() == tokens


@pytest.mark.parametrize("linked", [True, False])
def test_a_folder_of_another_repository_is_not_continued(
    hub: Hub, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    Handler.linked = linked
    out = tmp_path / "data"
    fetch(hub, "sp320", 2, out)
    other = remote.parents[1] / "another"
    shutil.copytree(remote.parent, other)
    tokens = change(other / "datasets", "fineweb_train_000000.bin")
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "someone/another")
    folder, _ = fetch(Hub.from_environment("sp320", hub.root.split("someone")[0] + "{repo}/"), "sp320", 1, out)
    assert read_shard(folder / "fineweb_train_000000.bin").tolist() == tokens
    sources = json.loads((out / "sources.json").read_text())
    shard = sources["datasets/fineweb10B_sp320/fineweb_train_000000.bin"]
    assert shard["url"].endswith("/someone/another/datasets/datasets/fineweb10B_sp320/fineweb_train_000000.bin")
    assert shard["sha256"] == hashlib.sha256((folder / "fineweb_train_000000.bin").read_bytes()).hexdigest()


def test_shards_that_the_repository_does_not_have_are_not_mixed_in(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    write_shard(folder / "fineweb_train_000099.bin", range(10))
    with pytest.raises(InputError, match=r"fineweb_train_000099\.bin: .* has no such shard; move it away"):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_without_anything_to_compare_by_a_file_comes_again(hub: Hub, tmp_path: Path) -> None:
    Handler.tagged = Handler.heads = False
    fetch(hub, "sp320", 1, tmp_path / "data")
    Handler.asked.clear()
    fetch(hub, "sp320", 1, tmp_path / "data")
    assert len(asked()) == 4


COMMIT = "c0ffee" + "0" * 34


def test_eight_that_begin_at_once_bring_it_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=threading.Event().wait))
    out, together = tmp_path / "data", threading.Barrier(8)
    said: list[str] = []

    def begin(_: int) -> tuple[Path, Path]:
        together.wait()
        return fetch(hub, "sp320", 2, out, lambda stage, *_: said.append(stage))

    with locked_file(out / ".lock"), ThreadPoolExecutor(8) as pool:
        results = [pool.submit(begin, number) for number in range(8)]
        while len(said) < 8:
            threading.Event().wait(0.01)
        release()
        found = {result.result() for result in results}
    assert said[:8] == [f"wait for another download into {out}"] * 8
    assert found == {(out / "datasets" / "fineweb10B_sp320", out / "tokenizers" / "small.model")}
    assert sorted(name for name, _ in asked()) == [
        "fineweb_train_000000.bin",
        "fineweb_train_000001.bin",
        "fineweb_val_000000.bin",
        "manifest.json",
        "small.model",
    ]
    assert len(asked("HEAD")) == 5, "what another has just brought is taken without a question"


def test_who_waited_looks_at_what_came(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer shards may have come than this one wants, or one was damaged since."""
    out = tmp_path / "data"
    folder, _ = fetch(hub, "sp320", 1, out)
    damaged = folder / "fineweb_val_000000.bin"
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"xx")
    Handler.asked.clear()
    with locked_file(out / ".lock"):
        fetch(hub, "sp320", 3, out, lambda *_: release())
    wanted = ["fineweb_val_000000.bin", "fineweb_train_000001.bin", "fineweb_train_000002.bin"]
    assert [name for name, _ in asked()] == wanted


def test_a_folder_keeps_to_its_commit(hub: Hub, remote: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    Handler.commit = COMMIT
    files = remote.parents[2] / "datasets" / "someone" / "repository" / "resolve"
    for revision in ("main", COMMIT):
        shutil.copytree(remote, files / revision / "datasets")
    named = Hub.from_environment("sp320", hub.root.split("/someone")[0] + "/datasets/{repo}/resolve/main/")
    fetch(named, "sp320", 1, out)
    sources = json.loads((out / "sources.json").read_text())
    assert {entry["commit"] for entry in sources.values()} == {COMMIT}
    assert all(f"/resolve/{COMMIT}/" in entry["url"] for entry in sources.values())
    tokens = change(files / "main" / "datasets", "fineweb_train_000001.bin")
    folder, _ = fetch(named.pinned(out), "sp320", 2, out)
    assert read_shard(folder / "fineweb_train_000001.bin").tolist() != tokens
    assert named.pinned(tmp_path) == named
    (out / "sources.json").write_text(json.dumps({"manifest.json": {"url": "another/manifest.json", "commit": COMMIT}}))
    assert named.pinned(out) == named


def test_a_revision_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MATCHED_FINEWEB_REPO_ID", "MATCHED_FINEWEB_BASE_URL", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert "/parameter-golf/resolve/v1.0/datasets/" in Hub.from_environment("sp1024", revision="v1.0").root
    with pytest.raises(InputError, match=r"revision '\.\./x': it must be the name of a branch or tag, or a commit"):
        Hub.from_environment("sp1024", revision="../x")
    with pytest.raises(InputError, match=r"revision v1: https://files\.example/ has no revisions; leave it out"):
        Hub.from_environment("sp1024", "https://files.example", "v1")


@pytest.mark.parametrize(
    ("status", "headers", "waits"),
    [
        (503, {"Retry-After": "7"}, [7.0]),
        (429, {"Retry-After": "0"}, [0.0]),
        (500, {}, [1.0]),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, [0.0]),
        (502, {"Retry-After": "nonsense"}, [1.0]),
    ],
)
def test_a_busy_server_is_asked_again(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], waits: list[float]
) -> None:
    Handler.scripted["fineweb_train_000000.bin"] = [(status, headers)]
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / "fineweb_train_000000.bin").size == 899
    assert pytest.approx(waits) == WAITED


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (429, {"Retry-After": "86400"}, "the server says 429 .*; it asks to be left alone for 86,400 s"),
        (
            403,
            {"reason": "no\x1b[2J"},
            r"the server says 403 no\\x1b\[2J; a repository that is not public needs HF_TOKEN",
        ),
        (401, {}, "the server says 401 Unauthorized; .*HF_TOKEN"),
        (410, {}, "the server says 410 Gone"),
        (302, {"Location": "ftp://127.0.0.1/x"}, "broke off|says"),
        (302, {"Location": "http://[bad/"}, "is no address that can be asked"),
        (200, {"Content-Length": "99999999999"}, "the server offers 99,999,999,999 bytes; such a file has at most"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], says: str
) -> None:
    Handler.scripted["fineweb_train_000000.bin"] = [(status, dict(headers)) for _ in range(9)]
    with pytest.raises(InputError, match=rf"fineweb_train_000000\.bin: ({says})") as caught:
        fetch(hub, "sp320", 1, tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxy"), [("http://exa mple/x", ""), ("http://a:b:c/x", ""), ("http://example.invalid/x", "http://a:b:c")]
)
def test_an_address_that_can_never_work_is_not_tried_again(
    url: str, proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(InputError, match="is no address that can be asked"):
        Server().get(url, tmp_path / "part", About(), 10)
    assert not WAITED


def test_a_body_that_drips_has_stalled(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(download, "_BLOCK", 16)
    seconds = iter(range(10_000))
    monkeypatch.setattr(download.time, "monotonic", lambda: float(next(seconds)))
    with pytest.raises(InputError, match=r"only \d+ bytes came in \d+ s"):
        Server().get(f"{hub.root}manifest.json", tmp_path / "part", About(), 1 << 20)


def test_a_body_without_an_end_is_cut_off(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the server offers \d+ bytes; such a file has at most 10"):
        Server().get(f"{hub.root}manifest.json", tmp_path / "part", About(), 10)


def test_a_certificate_that_is_not_trusted_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    server = Server()

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError(error)

    monkeypatch.setattr(server._opener, "open", refuse)
    with pytest.raises(InputError, match=r"the certificate of hub\.example is not trusted \(self-signed certificate\)"):
        server.about("https://hub.example/x")


def test_https_is_not_left() -> None:
    request = urllib.request.Request("https://hub.example/x")
    with pytest.raises(InputError, match="sends us to http://other/x, which is not https"):
        download._Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), "http://other/x")


def test_a_token_goes_to_its_hub_alone(hub: Hub, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\r\n")
    fetch(hub, "sp320", 1, tmp_path / "plain")
    assert set(Handler.tokens) == {None}, "another server than the hub's"
    Handler.tokens.clear()
    endpoint = hub.root.split("/someone")[0]
    monkeypatch.setenv("HF_ENDPOINT", f"{endpoint}/")
    monkeypatch.setattr(Hub, "library", False)
    place = remote.parents[2] / "datasets" / "someone" / "repository" / "resolve" / "main"
    shutil.copytree(remote.parent, place)
    moved = place / "datasets" / "tokenizers" / "small.model"
    moved.rename(moved.with_name("moved.model"))
    Handler.scripted["small.model"] = [(302, {"Location": f"{endpoint.replace('127.0.0.1', 'localhost')}/x"})]
    named = Hub.from_environment("sp320")
    assert named.root == f"{endpoint}/datasets/someone/repository/resolve/main/datasets/"
    with pytest.raises(InputError, match="404"):
        fetch(named, "sp320", 1, tmp_path / "data")
    assert set(Handler.tokens) == {"Bearer secret"}
    Server("secret", "127.0.0.1:1")  # and of a redirection:
    request = urllib.request.Request(f"{endpoint}/x")
    request.add_unredirected_header("Authorization", "Bearer secret")
    after = download._Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), "http://other/x")
    assert after is not None
    assert not after.has_header("Authorization")


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        ({"files_train": 3, "files_val": 0}, "files_val of fineweb10B_sp320 is 0; it must be from 1"),
        ({"files_train": 3, "files_val": -1}, "files_val of fineweb10B_sp320 is -1"),
        ({"files_train": True, "files_val": 1}, "files_train of fineweb10B_sp320 is True"),
        ({"files_train": 3, "files_val": "1"}, "files_val of fineweb10B_sp320 is '1'"),
        (
            {"files_train": 10**15, "files_val": 1},
            "is 10+; it must be from 1 to 100,000",
        ),
        ([], "lacks what is needed"),
    ],
)
def test_numbers_of_files_that_cannot_be(hub: Hub, remote: Path, tmp_path: Path, stats: object, says: str) -> None:
    manifest = json.loads((remote / "manifest.json").read_text())
    manifest["datasets"][0]["stats"] = stats
    (remote / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=says):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_a_disk_without_room_is_said_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    with pytest.raises(InputError, match=r"small\.model: needs [\d,]+ bytes, and its disk has 2,000; make room"):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_a_disk_that_fills_keeps_what_came(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, name = download._writing, "fineweb_train_000000.bin"
    full = [True]

    def writing(path: Path, mode: str) -> object:
        return before(Path("/dev/full") if full[0] and name in path.name else path, mode)

    monkeypatch.setattr(download, "_writing", writing)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); make room"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    assert not (tmp_path / "data" / "datasets" / "fineweb10B_sp320" / name).exists()
    full[0] = False
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / name).size == 899


def test_a_folder_that_cannot_be_written_will_do_if_all_is_there(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    fetch(hub, "sp320", 1, out)
    (out / ".lock").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    fetch(hub, "sp320", 1, out)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"datasets/fineweb10B_sp320: cannot be made \(Read-only file system\)"):
        fetch(hub, "sp320", 2, out)
    with pytest.raises(InputError, match=r"other: cannot be made or written \(Read-only file system\); name a folder"):
        fetch(hub, "sp320", 1, tmp_path / "other")


def test_the_hub_s_library_is_used_where_it_is_installed(
    hub: Hub, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []

    class HttpError(Exception):
        pass

    class HfHubHTTPError(HttpError, OSError):
        pass

    class EntryNotFoundError(Exception):
        pass

    def hf_hub_download(**named: object) -> str:
        calls.append(named)
        if len(calls) > 4:
            raise HttpError("busy\nlong story")
        target = Path(str(named["local_dir"])) / str(named["filename"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(remote.parent / str(named["filename"]), target)
        return str(target)

    library = ModuleType("huggingface_hub")
    library.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    errors = ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError, errors.EntryNotFoundError = HfHubHTTPError, EntryNotFoundError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr(Hub, "library", True)
    endpoint = hub.root.split("/someone")[0]
    named = Hub(hub.root, endpoint, "someone/repository", "datasets")
    folder, _ = fetch(named, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / "fineweb_train_000000.bin").size == 899
    assert calls[0]["filename"] == "datasets/manifest.json"
    assert {call["repo_id"] for call in calls} == {"someone/repository"}
    assert {call["endpoint"] for call in calls} == {endpoint}
    change(remote, "fineweb_train_000000.bin")
    with pytest.raises(InputError, match=r"000000\.bin: huggingface_hub could not get it \(busy\)"):
        fetch(named, "sp320", 1, tmp_path / "data")


def test_the_library_itself_brings_what_ours_does(hub: Hub, remote: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    Handler.commit, Handler.linked = COMMIT, True
    endpoint = hub.root.split("/someone")[0]
    served = remote.parents[2] / "datasets" / "someone" / "repository" / "resolve"
    for revision in ("main", COMMIT):
        shutil.copytree(remote, served / revision / "datasets")
    root = f"{endpoint}/datasets/someone/repository/resolve/main/datasets/"
    named = Hub(root, endpoint, "someone/repository", "datasets")
    assert named.library
    out = tmp_path / "data"
    folder, model = fetch(named, "sp320", 2, out)
    for path in (*folder.glob("*.bin"), model):
        assert path.read_bytes() == (remote / path.relative_to(out)).read_bytes()
    assert len(list(folder.glob("*.bin"))) == 3
    Handler.asked.clear()
    fetch(named, "sp320", 2, out)
    assert asked() == []
    (served / COMMIT / "datasets" / "datasets" / "fineweb10B_sp320" / "fineweb_train_000002.bin").unlink()
    with pytest.raises(InputError, match=r"fineweb_train_000002\.bin: the server says 404"):
        fetch(named, "sp320", 3, out)


def test_a_damaged_remote_file_never_gets_its_name(hub: Hub, remote: Path, tmp_path: Path) -> None:
    path = remote / "datasets" / "fineweb10B_sp320" / "fineweb_val_000000.bin"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"truncated"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    assert not list((tmp_path / "data" / "datasets").rglob("*val*"))


@pytest.mark.parametrize(
    ("variant", "count", "says"),
    [
        ("sp320", 4, "train shards 4: sp320 has 3"),
        ("sp320", 0, "train shards 0"),
        ("sp9", 1, "no dataset fineweb10B_sp9; it lists fineweb10B_sp320"),
        ("../x", 1, r"variant \.\./x"),
    ],
)
def test_what_is_not_there_is_an_error(hub: Hub, tmp_path: Path, variant: str, count: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        fetch(hub, variant, count, tmp_path / "data")


def test_a_path_that_leaves_the_folder_is_an_error(hub: Hub, remote: Path, tmp_path: Path) -> None:
    manifest = (remote / "manifest.json").read_text()
    (remote / "manifest.json").write_text(manifest.replace("tokenizers/small", "../../small"))
    with pytest.raises(InputError, match=r"a relative path of a \.model file"):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_a_missing_file_says_what_the_server_says(hub: Hub, remote: Path, tmp_path: Path) -> None:
    (remote / "datasets" / "fineweb10B_sp320" / "fineweb_train_000000.bin").unlink()
    with pytest.raises(InputError, match=r"fineweb_train_000000\.bin: the server says 404 Not Found$"):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_where_the_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPO_ID", "REMOTE_ROOT_PREFIX", "BASE_URL"):
        monkeypatch.delenv(f"MATCHED_FINEWEB_{name}", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    base = "https://huggingface.co/datasets"
    assert Hub.from_environment("sp1024").root == f"{base}/willdepueoai/parameter-golf/resolve/main/datasets/"
    assert Hub.from_environment("sp8192").root == f"{base}/kevclark/parameter-golf/resolve/main/datasets/"
    without_capitals = Hub.from_environment("sp8192_caseops").root
    assert without_capitals == f"{base}/romeerp/parameter-golf-caseops-v1/resolve/main/datasets/"
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "me/mine")
    monkeypatch.setenv("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "")
    assert Hub.from_environment("sp1024").root == f"{base}/me/mine/resolve/main/"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/ ")
    assert Hub.from_environment("sp1024").root == "https://mirror.example/datasets/me/mine/resolve/main/"
    commit = "a" * 40
    assert Hub.from_environment("sp1024").at(commit).root.endswith(f"/resolve/{commit}/")
    assert Hub.from_environment("sp1024").at("../x").root.endswith("/resolve/main/")
    with pytest.raises(InputError, match="the base address is file:///etc: not a web address"):
        Hub.from_environment("sp1024", "file:///etc")
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(InputError, match=r"HF_ENDPOINT is mirror\.example: not a web address"):
        Hub.from_environment("sp1024")
