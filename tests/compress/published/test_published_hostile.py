"""Published files from strangers: each is refused in one line that names it; nothing in one is run."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from helpers.published_files import int8, mixed, pack

from golf_fast.compress.published import layouts, torch_file
from golf_fast.compress.published.layouts import read_published
from golf_fast.errors import InputError

STATE = {
    "tok_emb.weight": torch.linspace(-1, 1, 60).reshape(6, 10),
    "blocks.0.mlp.fc.weight": torch.linspace(-2, 1, 30).reshape(3, 10),
    "blocks.0.attn.c_q.weight": torch.linspace(-1, 2, 30).reshape(3, 10),
    "blocks.0.attn.q_gain": torch.ones(2),
    "bigram.scale": torch.tensor(0.5),
}
FC, C_Q, GAIN = "blocks.0.mlp.fc.weight", "blocks.0.attn.c_q.weight", "blocks.0.attn.q_gain"


def refused(path: Path, data: bytes, *parts: str) -> str:
    path.write_bytes(data)
    with pytest.raises(InputError) as raised:
        read_published(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 500
    for part in parts:
        assert part in message
    return message


def test_both_layouts_are_read_before_they_are_broken(tmp_path: Path) -> None:
    for write in (mixed, int8):
        (tmp_path / "a").write_bytes(pack(write(STATE)[0]))
        assert set(read_published(tmp_path / "a").tensors) == set(STATE)


def put(table: str, name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[table][name] = value

    return change


def drop(table: str, name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[table].pop(name)


def at(table: str, name: str, value: float) -> Callable[[dict[str, Any]], None]:
    """Change the first number of a tensor."""

    def change(content: dict[str, Any]) -> None:
        content[table][name].reshape(-1)[0] = value

    return change


WIDE = torch.zeros(1).expand(1 << 40)
CASES: list[tuple[Any, Callable[[dict[str, Any]], None], tuple[str, ...]]] = [
    (mixed, at("w", f"{FC}.q", 16), (FC, "16", "int5 ends at -16 and 15")),
    (mixed, at("w", f"{FC}.q", -17), (FC, "-17")),
    (mixed, at("w", f"{C_Q}.q", 32), (C_Q, "int6 ends at -32 and 31")),
    (mixed, at("w", f"{FC}.scale", float("nan")), (FC, "nan", "finite")),
    (mixed, at("w", f"{FC}.scale", float("inf")), (FC, "inf", "finite")),
    (mixed, at("w", f"{FC}.scale", -1), (FC, "-1", "not negative")),
    (mixed, put("w", f"{FC}.scale", torch.full((3,), 1e38)), (FC, "1e+38")),
    (mixed, put("w", f"{FC}.scale", torch.ones(4).half()), (FC, "4 for integers of 3x10", "one a row")),
    (mixed, put("w", f"{FC}.scale", torch.ones(3, 1).half()), (FC, "3x1 for integers of 3x10")),
    (mixed, put("w", f"{FC}.scale", torch.ones(3).double()), (FC, "float64", "float16 or float32")),
    (mixed, put("w", f"{FC}.scale", torch.ones(3, dtype=torch.int8)), (FC, "int8", "float16 or float32")),
    (mixed, put("w", f"{FC}.q", torch.ones(3, 10)), (FC, "float32", "must be int8")),
    (mixed, put("w", f"{FC}.q", torch.zeros(0, 10, dtype=torch.int8)), (FC, "at least one")),
    (mixed, put("w", f"{FC}.q", [1, 2]), (FC, "list", "must be a tensor")),
    (mixed, put("w", f"{FC}.q", WIDE), (FC, "contiguous")),
    (mixed, put("w", f"{FC}.q", torch.zeros(3, 10).t()), (FC, "contiguous")),
    (mixed, put("w", GAIN, torch._neg_view(torch.ones(2))), (GAIN, "plain")),
    (mixed, put("w", GAIN, torch.ones(1).reshape([1] * 9)), (GAIN, "at most 8 sides")),
    (mixed, put("w", GAIN, torch.tensor([1, float("nan")])), (GAIN, "nan", "finite")),
    (mixed, put("w", GAIN, torch.tensor([1, float("-inf")]).bfloat16()), (GAIN, "-inf")),
    (mixed, put("w", GAIN, torch.ones(2).double()), (GAIN, "float64")),
    (mixed, put("w", GAIN, torch.ones(2, dtype=torch.int64)), (GAIN, "int64")),
    (mixed, put("w", GAIN, torch.ones(2, dtype=torch.complex64)), (GAIN, "complex64")),
    (mixed, put("w", GAIN, 3.0), (GAIN, "float", "tensor")),
    (mixed, put("w", "extra", torch.ones(2)), ("extra", "m must describe")),
    (mixed, put("m", "extra", "passthrough"), ("extra", "not in w")),
    (mixed, drop("w", f"{FC}.scale"), (f"{FC}.scale", "not in w")),
    (mixed, drop("m", FC), (f"{FC}.q", "m says nothing")),
    (mixed, put("m", FC, {"type": "int6", "bits": 5}), (FC, "a type like int6")),
    (mixed, put("m", FC, {"type": "int9"}), (FC, "a type like int6")),
    (mixed, put("m", FC, {"type": ["int6"]}), (FC, "a type like int6")),
    (mixed, put("m", FC, torch.ones(2)), (FC, "a type like int6")),
    (mixed, put("m", FC, "gptq (int6)"), (FC, "a type like int6")),
    (mixed, put("w", "a\nb", torch.ones(1)), ("a key of w", "printable")),
    (mixed, put("m", "\x1b[2J", "passthrough"), ("a key of m", "printable")),
    (mixed, put("w", "", torch.ones(1)), ("a key of w", "1 to 256")),
    (mixed, lambda content: content.update({7: 1}), ("a key of what it holds",)),
    (mixed, put("m", 7, "passthrough"), ("a key of m",)),  # type: ignore[arg-type]
    (mixed, lambda content: content.update(w=[1]), ("w is", "list", "dict")),
    (mixed, lambda content: content.update(x=1), ("its layout is unknown", "w, m, x")),
    (int8, at("scales", FC, float("nan")), (FC, "nan", "finite")),
    (int8, put("quantized", FC, torch.ones(3, 10, dtype=torch.uint8)), (FC, "uint8", "must be int8")),
    (int8, drop("scales", FC), (FC, "not in scales")),
    (int8, drop("dtypes", FC), (FC, "not in dtypes")),
    (int8, put("dtypes", FC, "int64"), (FC, "float32 or bfloat16")),
    (int8, put("dtypes", FC, torch.ones(2)), (FC, "float32 or bfloat16")),
    (int8, put("passthrough_orig_dtypes", "bigram.scale", "load"), ("bigram.scale", "float32 or bfloat16")),
    (int8, put("qmeta", FC, {"scheme": "per_row", "axis": 1}), (FC, "axis 0")),
    (int8, put("qmeta", FC, {"scheme": torch.ones(2), "axis": 0}), (FC, "axis 0")),
    (int8, put("qmeta", FC, 4), (FC, "must be a dict")),
    (int8, put("scales", "extra", torch.ones(2)), ("extra", "must be in quantized, scales and dtypes")),
    (int8, put("passthrough", FC, torch.ones(2)), (FC, "or only in passthrough")),
    (int8, lambda content: content.update(more={}), ("int8_clean_per_row_v1", "more")),
    (int8, lambda content: content.update(__quant_format__="v2"), ("int8_clean_per_row_v1",)),
    (int8, lambda content: content.update(__quant_format__=torch.ones(2)), ("int8_clean_per_row_v1",)),
    (int8, lambda content: content.pop("passthrough"), ("passthrough is", "NoneType", "dict")),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_lie_about_a_tensor_is_named(case: int, tmp_path: Path) -> None:
    write, change, parts = CASES[case]
    content, _ = write(STATE)
    change(content)
    refused(tmp_path / "model.ptz", pack(content), *parts)


@pytest.mark.parametrize("content", [[1], torch.ones(2), {}, {"a": 1}, None, "w", {"w": 1, "m": 2}])
def test_other_objects(content: object, tmp_path: Path) -> None:
    refused(tmp_path / "model.ptz", pack(content), "dict")


class Touch:
    """Unpickled by a careless reader, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Bytes:
    """Unpickled by a careless reader, takes a terabyte."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 40,)


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return file.getvalue()


def files_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as made:
        return {name: made.read(name) for name in made.namelist()}


def raw_of(content: object) -> bytes:
    return zlib.decompress(pack(content, "zlib"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_the_pickle_is_not_run(protocol: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    content, _ = mixed(STATE)
    content["m"]["a"] = Touch(made)
    file = io.BytesIO()
    torch.save(content, file, pickle_protocol=protocol)
    refused(tmp_path / "model.ptz", zlib.compress(file.getvalue()), "mkdir" if protocol == 2 else "protocol 4")
    refused(tmp_path / "model.ptz", zlib.compress(pickle.dumps(content)), "not an archive")
    assert not made.exists()
    torch.load(file.seek(0) or file, weights_only=False)
    assert made.is_dir(), "the file must be a danger to a careless reader"


def test_harmless_looking_calls_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a", pack({"w": Bytes(), "m": {}}), "bytearray")
    refused(tmp_path / "a", pack({"w": torch.nn.Parameter(torch.ones(2)), "m": {}}), "_rebuild_parameter")
    refused(tmp_path / "a", pack({"w": torch.ones(2).to_sparse(), "m": {}}), "torch")


def test_what_is_not_compressed_as_published(tmp_path: Path) -> None:
    good = pack(mixed(STATE)[0])
    raw = raw_of(mixed(STATE)[0])
    path = tmp_path / "model.ptz"
    for data in (b"", b"\x78", raw, b"GOLFFAST" + good, good[:3]):
        refused(path, data, "compressed by zstd or zlib")
    for data in (good + b"x", good + good, good[:-1], zstandard.compress(b"")):
        refused(path, data)
    streamed = zstandard.ZstdCompressor().compressobj()
    refused(path, streamed.compress(raw) + streamed.flush(), "declares no size")
    zipped = zlib.compress(raw)
    refused(path, zipped + b"x", "1 bytes lie behind")
    refused(path, zipped[:-1], "ends early")
    refused(path, zipped[:200] + bytes(8) + zipped[208:], "cannot be read")
    with pytest.raises(InputError, match="none: cannot be read"):
        read_published(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder, not a file"):
        read_published(tmp_path)


def test_archives_that_torch_save_does_not_write(tmp_path: Path) -> None:
    path, files = tmp_path / "model.ptz", files_of(raw_of(mixed(STATE)[0]))
    (tmp_path / "a").write_bytes(zlib.compress(archive(files)))
    assert set(read_published(tmp_path / "a").tensors) == set(STATE), "the rewritten archive is as good as the first"
    text = files["archive/data.pkl"]
    for broken in (
        archive(files, zipfile.ZIP_DEFLATED),
        archive(files | {"archive/DATA.PKL": text}),
        archive(files | {"other/data.pkl": text}),
        archive({name: data for name, data in files.items() if not name.endswith("data.pkl")}),
        archive(files | {"archive/data.pkl": text + bytes(1 << 20)}),
        archive(files | {"archive/data.pkl": text[:-20]}),
        archive(files | {"archive/data.pkl": b""}),
        archive(files | {"archive/constants.pkl": text}),
        archive(files | {"archive/data/0": b""}),
        archive({name: data for name, data in files.items() if name != "archive/data/0"}),
        archive(files | {f"archive/{index}": b"" for index in range(10_001)}),
    ):
        refused(path, zlib.compress(broken, 1))


def test_a_tensor_beyond_its_storage(tmp_path: Path) -> None:
    content, _ = mixed({GAIN: torch.ones(64)})
    files = files_of(raw_of(content))
    text = files["archive/data.pkl"]
    count, shape = b"K\x40tq", b"K\x40\x85"
    assert text.count(count) == text.count(shape) == 1
    for changed in (text.replace(shape, b"M\x00\x40\x85"), text.replace(count, b"M\x00\x40tq")):
        refused(tmp_path / "a", zlib.compress(archive(files | {"archive/data.pkl": changed})), "torch.load refuses")


def test_many_names_for_one_storage_count_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.zeros(1000)
    weights = {str(index): shared for index in range(30)}
    content = {"w": weights, "m": dict.fromkeys(weights, "passthrough")}
    (tmp_path / "a").write_bytes(pack(content))
    assert len(read_published(tmp_path / "a").tensors) == 30
    monkeypatch.setattr(layouts, "MAX_RAW_BYTES", 119_999)
    refused(tmp_path / "a", pack(content), "120000 bytes", "119999")


def test_a_stream_of_another_format_before_the_archive(tmp_path: Path) -> None:
    """torch would read the stream, and a reader of archives the archive at its end."""
    made = tmp_path / "made"
    file = io.BytesIO()
    torch.save({"w": Touch(made), "m": {}}, file, _use_new_zipfile_serialization=False)
    file.write(raw_of(mixed(STATE)[0]))
    assert zipfile.is_zipfile(file)
    refused(tmp_path / "a", zlib.compress(file.getvalue()), "begins with", "not an archive of torch.save")
    assert not made.exists()


def directory(files: dict[str, bytes], start: int) -> bytes:
    """Entries that begin at `start` of a file, a directory of them, and a zip64 end record."""
    body, listed = b"", b""
    for name, data in files.items():
        facts = (zlib.crc32(data), len(data), len(data), len(name), 0)
        at = start + len(body)
        body += b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, *facts) + name.encode() + data
        listed += b"PK\1\2" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 0, *facts, 0, 0, 0, 0, at) + name.encode()
    count = len(files)
    end = struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, count, count, len(listed), start + len(body))
    return body + listed + b"PK\6\6" + end


def test_an_archive_with_two_directories(tmp_path: Path) -> None:
    """One reader takes the end record that is nearest, the other that which the locator names."""
    good = files_of(raw_of(mixed(STATE)[0]))
    bad = files_of(raw_of({"w": Bytes(), "m": {}}))
    said_of: list[str] = []
    raw_of_first: list[bytes] = []
    for first, second in ((bad, good), (good, bad)):
        begin = directory(first, 0)
        both = begin + directory(second, len(begin))
        locator = b"PK\6\7" + struct.pack("<IQI", 0, len(begin) - 56, 1)
        raw = both + locator + b"PK\5\6" + b"\xff" * 16 + b"\0\0"
        raw_of_first.append(raw)
        path = tmp_path / "model.ptz"
        path.write_bytes(zlib.compress(raw))
        said = ""
        try:
            read_published(path)
        except InputError as error:
            said = str(error)
        assert "bytearray" in said or not said
        said_of.append(said)
    with pytest.raises(MemoryError):
        torch.load(io.BytesIO(raw_of_first[0]), weights_only=True)
    assert sorted(map(bool, said_of)) == [False, True], "each is read or refused as the one directory that was checked"


def test_entries_that_lie_over_each_other(tmp_path: Path) -> None:
    """Each is no longer than the file, and all together would take its length a thousand times."""
    raw = archive({"a/data.pkl": b"x" * 1000, **{f"a/data/{key}": b"" for key in range(9)}})
    with zipfile.ZipFile(io.BytesIO(raw)) as made:
        first = made.infolist()[0]
    changed = bytearray(raw)
    place = raw.index(b"PK\1\2")
    for _ in range(9):
        place = raw.index(b"PK\1\2", place + 1)
        changed[place + 16 : place + 28] = struct.pack("<3I", first.CRC, 1000, 1000)
        changed[place + 42 : place + 46] = struct.pack("<I", 0)
    refused(tmp_path / "a", zlib.compress(bytes(changed)), "longer together than the archive")


BOMBS = """
import resource, sys
from pathlib import Path
from golf_fast.compress.published.layouts import read_published
from golf_fast.errors import InputError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name in sys.argv[1:]:
    try:
        read_published(name)
        sys.exit(f"{name} was read")
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's address-space limit")
def test_bombs_under_a_memory_limit(tmp_path: Path) -> None:
    huge = bytearray(zstandard.compress(bytes(1 << 20)))
    huge[5:9] = (2**31 - 1).to_bytes(4, "little")  # the frame's own size, 4 bytes wide here
    deflated = archive({"a/data.pkl": bytes(200 << 20)}, zipfile.ZIP_DEFLATED)
    content, _ = mixed(STATE)
    content["w"][GAIN] = WIDE
    bombs = {
        "claims": bytes(huge),
        "deflated": zlib.compress(deflated),
        "wide": pack(content),
        "bytes": pack({"w": Bytes(), "m": {}}),
    }
    for name, data in bombs.items():
        assert len(data) < 1 << 20
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", BOMBS, *(str(tmp_path / name) for name in bombs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(done.stdout.splitlines()) == len(bombs)


def test_a_zlib_bomb_stops_at_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_BYTES", 1 << 20)
    exact = zlib.compress(bytes(1 << 20))
    refused(tmp_path / "a", exact, "not an archive")
    refused(tmp_path / "a", zlib.compress(bytes((1 << 20) + 1)), "holds more than 1048576 bytes")
    monkeypatch.setattr(layouts, "MAX_BYTES", 1 << 10)
    refused(tmp_path / "a", exact, "is larger than 1,024 bytes")


@pytest.mark.parametrize("write", [mixed, int8])
def test_flipped_bytes_are_read_or_refused(write: Callable[..., Any], tmp_path: Path) -> None:
    raw = bytearray(raw_of(write(STATE)[0]))
    dice = random.Random(4)
    path = tmp_path / "model.ptz"
    outcomes = set()
    for _ in range(300):
        changed = bytearray(raw)
        for _ in range(dice.choice((1, 1, 4))):
            changed[dice.randrange(len(raw))] = dice.randrange(256)
        path.write_bytes(zlib.compress(bytes(changed), 1))
        message = ""
        try:
            read_published(path)
        except InputError as error:
            message = str(error)
        outcomes.add(bool(message))
        assert not message or message.startswith(f"{path}: ")
        assert len(message.splitlines()) < 2
    assert outcomes == {True, False}
