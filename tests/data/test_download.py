"""How one file is asked for: what is tried again, what is refused, and where a token goes."""

import io
import shutil
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from helpers.hub_server import WAITED, Handler, asked, change

from golf_fast.data import download, read_shard
from golf_fast.data.download import About, Server
from golf_fast.data.fetch import Hub, fetch
from golf_fast.errors import InputError


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


def test_a_missing_file_says_what_the_server_says(hub: Hub, remote: Path, tmp_path: Path) -> None:
    (remote / "datasets" / "fineweb10B_sp320" / "fineweb_train_000000.bin").unlink()
    with pytest.raises(InputError, match=r"fineweb_train_000000\.bin: the server says 404 Not Found$"):
        fetch(hub, "sp320", 1, tmp_path / "data")
