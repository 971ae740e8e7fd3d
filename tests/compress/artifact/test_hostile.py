"""Files from strangers: each either is an artifact or is refused in one line that names it, within the caps."""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from helpers.installed_codecs import CODECS

from golf_fast.compress import entropy, quantize, read_artifact, write_artifact
from golf_fast.compress.artifact import codecs, container
from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.artifact.container import DIGEST_BYTES, PREAMBLE
from golf_fast.compress.artifact.header import MAX_RAW_BYTES
from golf_fast.compress.published.layouts import read_published
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError


def seal(data: bytes) -> bytes:
    return data + hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def build(header: Any, bodies: bytes = b"", version: int = container.VERSION, raw_size: int | None = None) -> bytes:
    """An artifact by hand, with a checksum that holds."""
    text = header
    if not isinstance(text, bytes):
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    packed = zstandard.ZstdCompressor().compress(text)
    raw_size = len(text) if raw_size is None else raw_size
    return seal(PREAMBLE.pack(container.MAGIC, version, len(packed), raw_size) + packed + bodies)


def fresh_header() -> dict[str, Any]:
    return {
        "tensors": [
            {"name": "a", "kind": "int5", "shape": [2, 3], "dtype": "float16"},
            {"name": "b", "kind": "raw", "shape": [4], "dtype": "uint8"},
        ],
        "blobs": [
            {"codec": "raw", "part": "values", "tensors": [0], "size": 6},
            {"codec": "raw", "part": "scales.0", "tensors": [0], "size": 2},
            {"codec": "raw", "part": "scales.1", "tensors": [0], "size": 2},
            {"codec": "raw", "part": "data", "tensors": [1], "size": 4},
        ],
        "model": {},
        "compress": {},
    }


BODIES = bytes(6) + bytes(2) + b"\x3c\x3c" + b"\1\2\3\4"


@pytest.fixture(scope="module", params=["zstd", "rans", "trellis"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An artifact with every kind of tensor, and blobs of the codec."""
    config = CompressConfig(fp16_max_elements=4, fp16_keep=("tok_emb",))
    if request.param == "trellis":
        config = dataclasses.replace(config, quantizer="trellis")
    else:
        config = dataclasses.replace(config, codec=request.param)
    weights = {
        "tok_emb": torch.ones(5, 4) / 3,
        "x.mlp.w": torch.eye(8),
        "x.attn.w": torch.linspace(-1, 1, 60).reshape(6, 10) ** 3,
        "head": torch.eye(4),
        "q_gain": torch.ones(6),
        "n": torch.arange(3),
    }
    path = tmp_path_factory.mktemp("small") / "a.golf"
    write_artifact(path, quantize(weights, config), {"dim": 8}, **config.coding())
    return path.read_bytes()


def refused(path: Path, data: bytes, says: str = "a") -> None:
    path.write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read_artifact(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


def test_the_hand_built_artifact_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(build(fresh_header(), BODIES))
    assert list(read_artifact(tmp_path / "a").tensors) == ["a", "b"]


def test_every_truncation(small: bytes, tmp_path: Path) -> None:
    for size in range(len(small)):
        refused(tmp_path / "a", small[:size])


def test_every_single_bit_flip(small: bytes, tmp_path: Path) -> None:
    for position in range(len(small) * 8):
        with pytest.raises(Malformed):
            container.decode(flip(small, position))
    for position in range(0, len(small) * 8, 41):
        refused(tmp_path / "a", flip(small, position))


def flip(data: bytes, position: int) -> bytes:
    flipped = bytearray(data)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def test_every_single_bit_flip_under_a_new_checksum(small: bytes) -> None:
    """Without the checksum's help: an artifact or a refusal, never another exception."""
    body, read, bits = small[:-DIGEST_BYTES], 0, 8 * (len(small) - DIGEST_BYTES)
    for position in range(bits):
        with contextlib.suppress(Malformed):
            container.decode(seal(flip(body, position)))
            read += 1
    assert 0 < read < bits / 2


def test_every_truncation_under_a_new_checksum(small: bytes) -> None:
    for size in range(len(small) - DIGEST_BYTES):
        with pytest.raises(Malformed):
            container.decode(seal(small[:size]))


def test_trailing_bytes(small: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "a", small + b"\0")
    refused(tmp_path / "a", seal(small[:-DIGEST_BYTES] + b"\0"), "add up")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 19, 20, 35, 36, 37])
def test_tiny_files(size: int, tmp_path: Path) -> None:
    refused(tmp_path / "a", (container.MAGIC + bytes(100))[:size])
    refused(tmp_path / "a", bytes(size), "another kind of file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_never_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_artifact, read_published):
        with pytest.raises(InputError, match=r"pipe: is a named pipe, not a file"):
            read(tmp_path / "pipe")


def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(header: dict[str, Any]) -> None:
        *outer, last = (int(key) if key.isdigit() else key for key in path.split("."))
        target: Any = header
        for key in outer:
            target = target[key]
        target[last] = value

    return apply


def repeat(key: str, position: int) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[key].append(header[key][position])


LIES = {
    "unknown key": (edit("extra", 1), "must be an object with"),
    "tensors not a list": (edit("tensors", 5), "must be a list"),
    "tensor not an object": (edit("tensors.0", []), "must be an object with"),
    "model not an object": (edit("model", []), "must be an object"),
    "name empty": (edit("tensors.0.name", ""), "1 to 256"),
    "name too long": (edit("tensors.0.name", "a" * 257), "1 to 256"),
    "name not text": (edit("tensors.0.name", 3), "1 to 256"),
    "names equal": (edit("tensors.1.name", "a"), "unique and sorted"),
    "names not sorted": (edit("tensors.1.name", "A"), "unique and sorted"),
    "unknown kind": (edit("tensors.0.kind", "int9"), "one of raw"),
    "kind not text": (edit("tensors.0.kind", [5]), "one of raw"),
    "dtype of scales": (edit("tensors.0.dtype", "float32"), "must have float16"),
    "unknown dtype": (edit("tensors.1.dtype", "object"), "must have float16 or"),
    "dtype not text": (edit("tensors.1.dtype", {}), "must have float16 or"),
    "side negative": (edit("tensors.1.shape", [-4]), "from 0 to"),
    "side a float": (edit("tensors.1.shape", [4.0]), "from 0 to"),
    "side a bool": (edit("tensors.1.shape", [True, 4]), "from 0 to"),
    "side huge": (edit("tensors.1.shape", [2**64 + 4]), "at most 64 bits"),
    "sides overflow": (edit("tensors.1.shape", [2**28, 2**28, 2**28]), "too many"),
    "sides hide behind zero": (edit("tensors.1.shape", [0, 2**28, 2**28]), "too many"),
    "many sides": (edit("tensors.1.shape", [1] * 9 + [4]), "too many"),
    "more than the cap": (edit("tensors.1.shape", [MAX_RAW_BYTES]), "at most"),
    "quantized without elements": (edit("tensors.0.shape", [0, 3]), "no elements"),
    "shape wider than its blob": (edit("tensors.0.shape", [2, 4]), "holds 6 bytes where the header says 8"),
    "unknown codec": (edit("blobs.0.codec", "other"), "known are"),
    "codec not text": (edit("blobs.0.codec", {}), "known are"),
    "unknown part": (edit("blobs.0.part", "data"), "foreign or there twice"),
    "part not text": (edit("blobs.0.part", 1), "must be a name"),
    "no such tensor": (edit("blobs.0.tensors", [2]), "tensor 2 of 2"),
    "no tensor": (edit("blobs.0.tensors", []), "do not rise"),
    "tensor twice": (edit("blobs.0.tensors", [0, 0]), "do not rise"),
    "negative tensor": (edit("blobs.0.tensors", [-1]), "from 0 to"),
    "blob twice": (repeat("blobs", 0), "there twice"),
    "blob missing": (edit("blobs", []), "is in no blob"),
    "size too large": (edit("blobs.0.size", 7), "add up"),
    "size negative": (edit("blobs.0.size", -6), "from 0 to"),
    "sizes cancel out": (lambda h: (edit("blobs.0.size", 8)(h), edit("blobs.3.size", 2)(h)), "holds 8 bytes where"),
    "raw bytes called zstd": (edit("blobs.0.codec", "zstd"), "zstd"),
}


@pytest.mark.parametrize(("lie", "says"), LIES.values(), ids=LIES.keys())
def test_lying_headers(lie: Callable[[dict[str, Any]], None], says: str, tmp_path: Path) -> None:
    header = fresh_header()
    lie(header)
    refused(tmp_path / "a", build(header, BODIES), says)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nul",
        b"3",
        b"[" * 500_000,
        b'{"model":NaN}',
        b"\xff",
        b"9" * 10_000,
        json.dumps(fresh_header(), sort_keys=True).encode(),
        json.dumps(fresh_header(), separators=(",", ":")).encode(),
        json.dumps(fresh_header(), separators=(",", ":"), sort_keys=True).replace("{", '{"blobs":[],', 1).encode(),
    ],
    ids=range(11),
)
def test_headers_that_are_not_canonical_json(text: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "a", build(text, BODIES), "header")


def test_versions_and_header_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    refused(path, build(fresh_header(), BODIES, version=2), "version 2")
    refused(path, build(fresh_header(), BODIES, raw_size=2**32 - 1), "too many")
    refused(path, build(fresh_header(), BODIES, raw_size=100), "declares")
    refused(path, seal(PREAMBLE.pack(container.MAGIC, 1, 2**32 - 1, 10) + bytes(50)), "too many")


@pytest.mark.parametrize(
    ("bodies", "says"),
    [
        (b"\x10" + BODIES[1:], "from 0 to 16"),
        (b"\xef" + BODIES[1:], "from -17 to 0"),
        (bytes(6) + bytes(2) + b"\x7c\x3c" + b"\1\2\3\4", "not all finite"),
    ],
    ids=["value above int5", "value below int5", "infinite scale"],
)
def test_contents_that_no_writer_makes(bodies: bytes, says: str, tmp_path: Path) -> None:
    refused(tmp_path / "a", build(fresh_header(), bodies), says)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    header = fresh_header()
    header["tensors"][0] |= {"kind": "int8", "dtype": "float32"}
    header["blobs"][1:3] = [
        {"codec": "raw", "part": f"scales.{plane}", "tensors": [0], "size": 2} for plane in range(4)
    ]
    for scale, value, fine in ((3e38, 1, True), (3e38, 2, False), (-3e38, 2, False), (2.6e36, -128, True)):
        scales = np.array([1, scale], "<f4").view(np.uint8).reshape(2, 4).T.tobytes()
        data = build(header, np.array([0, 0, 0, 0, 0, value], np.int8).tobytes() + scales + b"\1\2\3\4")
        if fine:
            container.decode(data)
        else:
            refused(tmp_path / "a", data, "a scale is .* not finite in float32")


def one_tensor(size: int, body: bytes, codec: str = "zstd") -> bytes:
    header = fresh_header()
    header["tensors"] = [{"name": "b", "kind": "raw", "shape": [size], "dtype": "uint8"}]
    header["blobs"] = [{"codec": codec, "part": "data", "tensors": [0], "size": len(body)}]
    return build(header, body)


def streamed(raw: bytes) -> bytes:
    """A zstd frame that does not declare its size."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(raw) + stream.flush()


@pytest.mark.parametrize(
    "frame",
    [
        zstandard.compress(bytes(99)),
        streamed(bytes(100)),
        streamed(bytes(101)),
        zstandard.compress(bytes(100)) + b"\0",
        zstandard.compress(bytes(50)) + zstandard.compress(bytes(50)),
        zstandard.compress(bytes(100))[:-1],
        zstandard.compress(b""),
        b"",
        b"\x28\xb5\x2f\xfd",
    ],
    ids=[
        "short",
        "no size",
        "no size, long",
        "trailing",
        "two frames",
        "cut",
        "empty frame",
        "no frame",
        "magic alone",
    ],
)
def test_zstd_frames_of_another_size(frame: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "a", one_tensor(100, frame), "zstd")


LARGE = 200 << 20


@pytest.mark.parametrize("codec", sorted(set(CODECS) - {"zstd"}))
def test_blobs_of_another_size_under_other_codecs(codec: str, tmp_path: Path) -> None:
    random = bytes(range(0, 200, 2)) * 3
    coder, (rows, cols) = codecs.CODECS[codec], (1, 300)
    blob = coder.encode(random, codecs.Form(rows, cols, 8), 22)
    (tmp_path / "a").write_bytes(one_tensor(300, blob, codec))
    assert read_artifact(tmp_path / "a").size > len(blob)
    for size, changed in [
        (299, blob),
        (301, blob),
        (300, blob + b"\0"),
        (300, blob[:-1]),
        (300, b""),
        (300, blob + blob),
    ]:
        refused(tmp_path / "a", one_tensor(size, changed, codec), codec)
    if codec == "rans":
        transposed = coder.encode(random, codecs.Form(300, 1, 8), 22)
        refused(tmp_path / "a", one_tensor(300, transposed, codec), "must have")


BOMBS = """
import resource, sys
from pathlib import Path
from golf_fast.compress import read_artifact
from golf_fast.errors import InputError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name in sys.argv[1:]:
    try:
        read_artifact(name)
        sys.exit(f"{name} was read")
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's address-space limit")
def test_bombs_under_a_memory_limit(tmp_path: Path) -> None:
    """100 MiB must do for files that would unfold to more: each is refused before it is unfolded."""
    compressor = zstandard.ZstdCompressor(level=3)
    large = compressor.compress(bytes(LARGE))
    lying = bytearray(compressor.compress(bytes(1 << 20)))
    lying[5:9] = (2**31 - 1).to_bytes(4, "little")  # the frame's own size, 4 bytes wide here
    bombs = {
        "a frame of 200 MiB": one_tensor(100, large),
        "a streamed frame of 200 MiB": one_tensor(100, streamed(bytes(LARGE))),
        "a frame that claims 2 GiB": one_tensor(1 << 20, bytes(lying)),
        "a tensor above the cap": one_tensor(MAX_RAW_BYTES, large),
        "a header of 200 MiB": build(b" " * (LARGE), BODIES),
        "a header of 200 MiB that claims less": build(b" " * (LARGE), BODIES, raw_size=1000),
    }
    # One symbol takes no bits: the side information alone is the file.
    zeros = bytes.fromhex("1408 8080808001 01".replace(" ", "")) + entropy.encode(np.zeros((1, 4096), np.int8), 8)[4:]
    bombs["a rans blob of 256 MiB"] = one_tensor(100, zeros, "rans")
    if codecs.brotli is not None:
        bombs["a brotli blob of 200 MiB"] = one_tensor(100, codecs.brotli.compress(bytes(LARGE), quality=5), "brotli")
    for name, data in bombs.items():
        assert len(data) < 1 << 20
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, *(str(tmp_path / name) for name in bombs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(done.stdout.splitlines()) == len(bombs)
