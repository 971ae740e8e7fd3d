import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_fast.data import Shard, find_shards, read_shard, shard_tokens, write_shard
from golf_fast.errors import InputError


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_what_is_written_is_read(tmp_path: Path, tokens: list[int]) -> None:
    path = tmp_path / "x_train_000000.bin"
    write_shard(path, tokens)
    assert read_shard(path).tolist() == tokens
    assert shard_tokens(path) == len(tokens)


def test_the_bytes_are_the_challenges(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_shard(path, np.array([1, 258, 65535], np.int64))
    assert path.read_bytes() == struct.pack("<256i", 20240520, 1, 3, *[0] * 253) + bytes([1, 0, 2, 1, 255, 255])


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    count = 1 << 30  # 2 GiB, a hole but for the header: reading it all would show
    with path.open("wb") as file:
        file.write(struct.pack("<256i", 20240520, 1, count, *[0] * 253))
        file.truncate(1024 + 2 * count)
    shard = Shard(path)
    assert shard.tokens == count
    tokens = shard.read(count - 3, 10)
    assert tokens.tolist() == [0, 0, 0]
    assert not tokens.flags.writeable


def test_a_shard_that_shrinks_while_it_is_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "shrinking.bin"
    write_shard(path, range(5000))
    shard = Shard(path)
    with path.open("r+b") as file:
        file.truncate(1024 + 2 * 4000)
    assert shard.read(10, 3).tolist() == [10, 11, 12]
    with pytest.raises(InputError, match=r"shrinking\.bin: it became shorter while it was read"):
        shard.read(3998, 3)


def test_a_shard_that_is_replaced_stays_the_same_to_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "replaced.bin"
    write_shard(path, range(100))
    shard = Shard(path)
    write_shard(path, range(100, 150))
    assert shard.read(0, 100).tolist() == list(range(100))
    assert read_shard(path).tolist() == list(range(100, 150))


def test_hidden_files_are_no_shards(tmp_path: Path) -> None:
    for name in ("f_train_000001.bin", "._f_train_000001.bin", ".f_train_000002.bin.part"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(tmp_path, "train")] == ["f_train_000001.bin"]


def test_a_pipe_is_refused_and_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f_train_000000.bin")
    with pytest.raises(InputError, match=r"f_train_000000\.bin: is a named pipe, not a file; a token shard"):
        shard_tokens(tmp_path / "f_train_000000.bin")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"x" * 1023, "1023 bytes"),
        (struct.pack("<256i", 7, 1, 2, *[0] * 253) + b"abcd", "magic 7"),
        (struct.pack("<256i", 20240520, 2, 2, *[0] * 253) + b"abcd", "version 2"),
        (struct.pack("<256i", 20240520, 1, 2, *[0] * 253) + b"abc", "1027 bytes, but 2 tokens take 1028.*truncated"),
        (struct.pack("<256i", 20240520, 1, 2, *[0] * 253) + b"abcde", "1029 bytes, but 2 tokens take 1028.*too long"),
        (struct.pack("<256i", 20240520, 1, 0, *[0] * 253), "0 tokens"),
        (struct.pack("<256i", 20240520, 1, -1, *[0] * 253), "-1 tokens"),
    ],
)
def test_a_damaged_shard_is_an_error_with_name_and_number(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "damaged.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged\.bin: .*{says}") as caught:
        read_shard(path)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.bin: cannot be read"):
        read_shard(tmp_path / "none.bin")


def test_shards_are_found_in_name_order(tmp_path: Path) -> None:
    for name in ("f_train_000002.bin", "f_train_000010.bin", "f_train_000001.bin", "f_val_000000.bin", "f_train_1.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(tmp_path, "train")] == [
        "f_train_000001.bin",
        "f_train_000002.bin",
        "f_train_000010.bin",
    ]
    assert [path.name for path in find_shards(tmp_path, "val")] == ["f_val_000000.bin"]


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing: no such folder"):
        find_shards(tmp_path / "missing", "train")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"none of its 1 files is named \*_val_\*\.bin"):
        find_shards(tmp_path, "val")
