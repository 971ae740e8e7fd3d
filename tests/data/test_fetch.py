import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from golf_fast.data import Tokenizer, read_shard, write_shard
from golf_fast.data.fetch import Hub, fetch
from golf_fast.errors import InputError


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, honours ranges, and breaks off after `budget` bytes of a file that is in `breaking`."""

    breaking: dict[str, int]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        path = Path(self.translate_path(self.path))
        self.asked.append((name, self.headers.get("Range", "")))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start : start + self.breaking.pop(name, len(content))])

    def log_message(self, *_: object) -> None:
        pass


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


@pytest.fixture
def hub(remote: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Handler.breaking, Handler.asked = {}, []
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


def test_what_is_there_stays_and_what_is_damaged_comes_again(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetch(hub, "sp320", 2, tmp_path / "data")
    damaged = folder / "fineweb_train_000001.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    Handler.asked.clear()
    fetch(hub, "sp320", 2, tmp_path / "data")
    assert [name for name, _ in Handler.asked] == ["manifest.json", damaged.name]
    assert read_shard(damaged).size == 900


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = 1500
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert [wanted for file, wanted in Handler.asked if file == name] == ["", "bytes=1500-"]
    assert read_shard(folder / name).tolist() == list(range(1, 900))


def test_a_part_that_lacks_nothing_is_taken(hub: Hub, remote: Path, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    folder = tmp_path / "data" / "datasets" / "fineweb10B_sp320"
    folder.mkdir(parents=True)
    (folder / f".{name}.part").write_bytes((remote / "datasets" / "fineweb10B_sp320" / name).read_bytes())
    fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / name).size == 899
    assert not list(folder.glob(".*"))


def test_a_download_that_gets_nowhere_is_an_error_and_can_be_taken_up(hub: Hub, tmp_path: Path) -> None:
    name = "fineweb_train_000000.bin"
    Handler.breaking[name] = 0
    with pytest.raises(InputError, match=rf"{name}: broke off at 0 bytes"):
        fetch(hub, "sp320", 1, tmp_path / "data")
    assert not (tmp_path / "data" / "datasets" / "fineweb10B_sp320" / name).exists()
    folder, _ = fetch(hub, "sp320", 1, tmp_path / "data")
    assert read_shard(folder / name).size == 899


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
    with pytest.raises(InputError, match=r"fineweb_train_000000\.bin: the server says 404"):
        fetch(hub, "sp320", 1, tmp_path / "data")


def test_where_the_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MATCHED_FINEWEB_REPO_ID", "MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "MATCHED_FINEWEB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    base = "https://huggingface.co/datasets"
    assert Hub.from_environment("sp1024").root == f"{base}/willdepueoai/parameter-golf/resolve/main/datasets/"
    assert Hub.from_environment("sp8192").root == f"{base}/kevclark/parameter-golf/resolve/main/datasets/"
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "me/mine")
    monkeypatch.setenv("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "")
    assert Hub.from_environment("sp1024").root == f"{base}/me/mine/resolve/main/"
    with pytest.raises(InputError, match="not a web address"):
        Hub.from_environment("sp1024", "file:///etc")
