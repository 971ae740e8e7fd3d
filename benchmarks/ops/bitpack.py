"""bitpack: on a CPU 64 MiB of values, against a memory copy of as many bytes, NumPy and torchao; or on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.ops import bitpack_gpu, peers
from benchmarks.ops.registry import Case
from golf_fast.ops.bitpack import native, planes_size, reference

TORCHAO = "torchao.prototype.dtypes.uintx.bitpacking"
VALUES = 64 << 20


def left_out(device_kind: str) -> list[str]:
    """What is not measured, and why."""
    if device_kind == "cuda":
        return bitpack_gpu.left_out()
    lines = []
    if obstacle := native.obstacle("cpu"):
        lines.append(f"bitpack: everything, for {obstacle}")
    if not torch.cuda.is_available():
        lines.append("bitpack on a GPU: there is none here")
    if missing := peers.optional(TORCHAO, "pack_cpu")[1]:
        lines.append(f"bitpack against torchao: {missing}")
    return lines


def cases(device_kind: str) -> Iterator[Case]:
    """Every path of this CPU, packing and unpacking int5 and int6; or the cases of a GPU."""
    if device_kind == "cuda":
        yield from bitpack_gpu.cases()
        return
    for path in native.cpu_paths():
        for bits in (5, 6):
            yield from _on_cpu(bits, path)


def memory_copy(size: int) -> Callable[[], object]:
    """The C library's memcpy between two warm buffers."""
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    source, target = torch.ones(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    return lambda: memcpy(target.data_ptr(), source.data_ptr(), size)


def numpy_unpack(planes: np.ndarray, bits: int) -> np.ndarray:
    """The values of whole blocks, as short as NumPy says it."""
    nibbles, high = np.split(planes, [planes.size // bits * 4])
    width = bits - 4
    slots = width * np.arange(8 // width, dtype=np.uint8)[:, None]
    low = (nibbles.reshape(-1, 1, 64) >> np.array([[0], [4]], np.uint8)) & 15
    top = (high.reshape(-1, 1, 16 * width) >> slots) & ((1 << width) - 1)
    return (low.reshape(-1) | (top.reshape(-1) << 4)).view(np.int8) - np.int8(1 << (bits - 1))


def numpy_pack(values: np.ndarray, bits: int) -> np.ndarray:
    """The planes of whole blocks."""
    unsigned = (values + np.int8(1 << (bits - 1))).view(np.uint8)
    width = bits - 4
    slots = width * np.arange(8 // width, dtype=np.uint8)[:, None]
    halves = (unsigned & 15).reshape(-1, 2, 64)
    top = (unsigned >> 4).reshape(-1, 8 // width, 16 * width) << slots
    high = np.bitwise_or.reduce(top, axis=1)
    return np.concatenate([(halves[:, 0] | (halves[:, 1] << 4)).reshape(-1), high.reshape(-1)])


def torchao_peers(values: torch.Tensor, bits: int) -> tuple[dict[str, Callable[[], object]], ...]:
    """Unpack and pack by torchao, whose values have no sign and whose planes have another order."""
    pack_cpu, unpack_cpu = (peers.optional(TORCHAO, name)[0] for name in ("pack_cpu", "unpack_cpu"))
    if pack_cpu is None or unpack_cpu is None:
        return {}, {}
    half = 2 ** (bits - 1)
    shards = pack_cpu((values + half).view(torch.uint8), bits)
    return (
        {"torchao": lambda: unpack_cpu(shards, bits).view(torch.int8).sub_(half)},
        {"torchao": lambda: pack_cpu((values + half).view(torch.uint8), bits)},
    )


def torchao_wrong(values: torch.Tensor, bits: int) -> str | None:
    """None if torchao gets back what it packed."""
    unpack = torchao_peers(values, bits)[0]["torchao"]
    return None if torch.equal(torch.as_tensor(unpack()), values) else "unpack is not the inverse of pack"


def _on_cpu(bits: int, path: str) -> Iterator[Case]:
    half = 2 ** (bits - 1)
    values = torch.randint(-half, half, (VALUES,), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    planes = torch.zeros(planes_size(VALUES, bits), dtype=torch.uint8)
    unpacked = torch.zeros_like(values)
    moved = VALUES + planes.numel()
    copy = memory_copy(moved // 2)
    native.pack_into(values, bits, planes, path)
    packed, original = planes.numpy(), values.numpy()
    torchao_unpack, torchao_pack = torchao_peers(values, bits)
    theirs = {"torchao": lambda: torchao_wrong(values, bits)}

    def unpack_gate() -> str | None:
        native.unpack_into(planes, bits, unpacked, path)
        good = torch.equal(unpacked, values) and np.array_equal(numpy_unpack(packed, bits), original)
        return None if good else "unpack is not the inverse of pack"

    def pack_gate() -> str | None:
        native.pack_into(values, bits, planes, path)
        few = values[: 1 << 16]
        expected = reference.pack(few, bits)
        good = torch.equal(planes[: 1 << 15], expected[: 1 << 15])
        return None if good and np.array_equal(numpy_pack(original, bits), packed) else "pack differs from NumPy's"

    yield Case(
        op="bitpack",
        label=f"unpack int{bits} to 64 MiB of int8",
        implementation=path,
        ours=lambda: native.unpack_into(planes, bits, unpacked, path),
        peers={"memcpy": copy, "numpy": lambda: numpy_unpack(packed, bits), **torchao_unpack},
        gate=unpack_gate,
        peer_gates=theirs,
        bytes_moved=moved,
    )
    yield Case(
        op="bitpack",
        label=f"pack 64 MiB of int8 to int{bits}",
        implementation=path,
        ours=lambda: native.pack_into(values, bits, planes, path),
        peers={"memcpy": copy, "numpy": lambda: numpy_pack(original, bits), **torchao_pack},
        gate=pack_gate,
        peer_gates=theirs,
        bytes_moved=moved,
    )
