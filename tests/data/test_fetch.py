import errno
import hashlib
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.hub_server import Handler, asked, change, locked_file, release

import golf_fast.data.fetch as module
from golf_fast.data import read_shard, write_shard
from golf_fast.data.fetch import Hub, fetch
from golf_fast.data.shards import find_shards, side_cars
from golf_fast.errors import InputError


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


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_changed_on_the_server_comes_again(hub: Hub, remote: Path, tmp_path: Path, linked: bool) -> None:
    Handler.linked = linked
    folder, _ = fetch(hub, "sp320", 2, tmp_path / "data")
    tokens = change(remote, "fineweb_train_000001.bin")
    Handler.asked.clear()
    fetch(hub, "sp320", 1, tmp_path / "data")
    assert asked() == [("fineweb_train_000001.bin", "")], "it is not asked for, but training would read it"
    assert read_shard(folder / "fineweb_train_000001.bin").tolist() == tokens


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
        ("sp320", 0, "train shards is 0: it must be at least 1"),
        ("sp9", 1, "no dataset fineweb10B_sp9; it lists fineweb10B_sp320"),
        ("../x", 1, r"variant '\.\./x'"),
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
