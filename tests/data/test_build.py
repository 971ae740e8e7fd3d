import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from golf_fast.data import BOS_ID, Tokenizer, build_corpus, read_shard, text_corpus
from golf_fast.data.case_ops import OURS
from golf_fast.data.shards import side_cars
from golf_fast.errors import InputError
from golf_fast.files import locked


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_builds_give_the_same_files(text_folder: Path, tmp_path: Path) -> None:
    one = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "one")
    two = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "two")
    assert one.folder.name == two.folder.name
    assert contents(one.folder) == contents(two.folder)
    assert set(contents(one.folder)) == {
        "manifest.json",
        "tokenizer.model",
        "text_train_000000.bin",
        "text_val_000000.bin",
    }


def test_the_shards_hold_every_document_once(text_folder: Path, documents: list[str], tmp_path: Path) -> None:
    built = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path)
    tokenizer = Tokenizer(built.folder / "tokenizer.model")
    found = []
    for part in ("train", "val"):
        described = built.manifest[part]
        tokens = np.concatenate([read_shard(built.folder / name) for name in described["shards"]])
        assert tokens[0] == BOS_ID
        texts = [tokenizer.decode(piece) for piece in np.split(tokens, np.flatnonzero(tokens == BOS_ID)[1:])]
        assert described["documents"] == len(texts)
        assert described["tokens"] == tokens.size
        assert described["bytes"] == sum(len(text.encode()) for text in texts)
        assert described["bytes"] == tokenizer.token_bytes().count(tokens[:-1], tokens[1:]).sum()
        found += texts
    assert sorted(found) == sorted(documents)
    assert json.loads((built.folder / "manifest.json").read_text()) == built.manifest


def test_long_streams_are_cut_into_shards(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "whole")
    monkeypatch.setattr("golf_fast.data.build.SHARD_TOKENS", 137)
    pieces = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "pieces")
    shards = [read_shard(pieces.folder / name) for name in pieces.manifest["train"]["shards"]]
    assert len(shards) > 10
    assert {shard.size for shard in shards[:-1]} == {137}
    assert np.concatenate(shards).tolist() == read_shard(whole.folder / "text_train_000000.bin").tolist()


def test_text_without_capitals_comes_with_the_bytes_of_its_tokens(
    text_folder: Path, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text_folder / "00.txt").write_text(documents[0].title() + OURS.characters, encoding="utf-8")
    plain = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path)
    monkeypatch.setattr("golf_fast.data.build.SHARD_TOKENS", 137)
    built = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path, case_ops=OURS)
    assert built.folder != plain.folder
    assert built.manifest["val"]["bytes"] == plain.manifest["val"]["bytes"]
    shards = [built.folder / name for name in built.manifest["val"]["shards"]]
    tokens, numbers = (np.concatenate([read_shard(path) for path in paths]) for paths in (shards, side_cars(shards)))
    tokenizer = Tokenizer(built.folder / "tokenizer.model")
    assert len(shards) > 2
    assert len(tokens) == len(numbers)
    assert int(numbers.sum()) == built.manifest["val"]["bytes"] == len(tokenizer.decode_bytes(tokens))
    assert numbers[1:].tolist() == tokenizer.token_bytes().along(tokens).tolist()
    assert not numbers[tokens == BOS_ID].any()
    assert {path.name for path in side_cars(shards)} < set(built.manifest["files"])


def test_a_second_build_reuses_the_first(text_folder: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    first = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b", lambda stage, *_: stages.append(stage))
    assert {"read text", "train tokenizer", "encode train", "encode val"} == set(stages)
    stages.clear()
    again = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b", lambda stage, *_: stages.append(stage))
    assert (first.reused, again.reused, stages) == (False, True, [])
    assert again.manifest == first.manifest
    for vocab_size, fraction in ((301, 0.2), (300, 0.3)):
        assert build_corpus(text_corpus(text_folder), vocab_size, fraction, tmp_path / "b").folder != first.folder
    (text_folder / "00.txt").write_text("changed")
    assert build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b").folder != first.folder


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.model", "text_train_000000.bin", "text_val_000000.bin"])
@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_a_damaged_folder_is_built_anew(text_folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    first = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b")
    before = contents(first.folder)
    path = first.folder / name
    if damage == "gone":
        path.unlink()
    elif damage == "short":
        path.write_bytes(before[name][:-1] if name != "manifest.json" else before[name][:-5])
    else:
        path.write_bytes(bytes([before[name][0] ^ 1]) + before[name][1:])
    again = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b")
    assert not again.reused
    assert contents(again.folder) == before
    assert [path.name for path in (tmp_path / "b").iterdir()] == [first.folder.name]


def test_builds_at_the_same_time_leave_one_whole_folder(text_folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(build_corpus, text_corpus(text_folder), 300, 0.2, tmp_path / "b") for _ in range(4)]
        folders = {job.result().folder for job in jobs}
    assert len(folders) == 1
    assert list((tmp_path / "b").iterdir()) == list(folders)
    assert build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b").reused


def test_an_error_leaves_nothing_behind(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocabulary size 9000"):
        build_corpus(text_corpus(text_folder), 9000, 0.2, tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())


def test_an_unwritable_folder_is_an_error(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*: cannot be written"):
        build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "file" / "b")


@pytest.mark.parametrize("bytes_left", [1000, 4000, 20_000])
def test_a_disk_that_fills_is_an_error_and_leaves_nothing(text_folder: Path, tmp_path: Path, bytes_left: int) -> None:
    """A limit on the size of files fails writes as a full disk does, after a part."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        with pytest.raises(
            InputError, match=r"\.building-\w+/\S+: cannot be written \(File too large\); a disk with room is needed"
        ):
            build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "built")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "built").iterdir()) == []
    build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "built")


def test_what_was_built_is_used_where_nothing_can_be_written(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "built")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "built").reused
    with pytest.raises(InputError, match=r"built: cannot be written \(Read-only file system\); name another in data"):
        build_corpus(text_corpus(text_folder), 301, 0.2, tmp_path / "built")


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o077, 0o700, 0o600), (0o002, 0o775, 0o664)])
def test_modes_follow_the_umask_and_none_is_changed(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, folder: int, file: int
) -> None:
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("some file systems refuse it"))
    before = os.umask(mask)
    try:
        built = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b").folder
    finally:
        os.umask(before)
    assert stat.S_IMODE(built.stat().st_mode) == folder
    assert {stat.S_IMODE(path.stat().st_mode) for path in built.iterdir()} == {file}


def test_what_killed_builders_left_is_removed_and_a_living_one_s_is_not(text_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "b"
    for name in (".building-dead", ".damaged-dead", ".building-new", ".building-alive"):
        (root / name).mkdir(parents=True)
        (root / name / "tokenizer.model").touch()
        if name != ".building-new":
            os.utime(root / name, (0, 0))
    with locked(root / ".building-alive") as holder:
        assert holder == "us"
        built = build_corpus(text_corpus(text_folder), 300, 0.2, root)
    assert {path.name for path in root.iterdir()} == {built.folder.name, ".building-new", ".building-alive"}


def test_what_is_left_out_of_a_folder_is_in_the_manifest(text_folder: Path, tmp_path: Path) -> None:
    (text_folder / "picture.png").touch()
    built = build_corpus(text_corpus(text_folder), 300, 0.2, tmp_path / "b")
    assert built.manifest["left_out"] == "1 ending in .png"
