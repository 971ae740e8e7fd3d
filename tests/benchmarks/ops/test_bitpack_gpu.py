"""bitpack's cases for a GPU: counted at full size without making a tensor, and run on a CPU at small sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from benchmarks import results
from benchmarks.measure import Comparison, Timing
from benchmarks.ops import bitpack, bitpack_gpu, peers, registry
from golf_fast.ops.bitpack import native

MIB = 1 << 20
SEED_PLANES, SEED_VALUES, SEED_ROWS = 16_662_528, 24_838_144, 46_336
"""By hand: 15,728,640 values of the MLP at 5/8 byte, 9,109,504 others at 6/8; one block's keys and the embedding are no
integers. Rows: 10 (1536 + 512); 10 (512 + 512 + 256) + 9 * 256; 10,240 + 512."""
BYTES_MOVED = {
    "unpack int5 to 64 MiB of int8": (40 + 64) * MIB,
    "unpack int6 to 64 MiB of int8": (48 + 64) * MIB,
    "unpack int5 and int6 to the seed's matrices in int8": SEED_PLANES + SEED_VALUES,
    # 65,536 rows of 512
    "unpack-dequantize int5 to 64 MiB of bf16": (20 + 64) * MIB + 131_072,
    "unpack-dequantize int6 to 64 MiB of bf16": (24 + 64) * MIB + 131_072,
    "unpack-dequantize int5 and int6 to the seed's matrices in bf16": SEED_PLANES + 2 * SEED_VALUES + 2 * SEED_ROWS,
    "pack 64 MiB of int8 to int5": (40 + 64) * MIB,
    "pack 64 MiB of int8 to int6": (48 + 64) * MIB,
    "pack the seed's matrices in int8 to int5 and int6": SEED_PLANES + SEED_VALUES,
    # 32,768 rows of 512
    "quantize-pack 64 MiB of float32 to int5": (10 + 64) * MIB + 65_536,
    "quantize-pack 64 MiB of float32 to int6": (12 + 64) * MIB + 65_536,
    "quantize-pack the seed's matrices in float32 to int5 and int6": SEED_PLANES + 4 * SEED_VALUES + 2 * SEED_ROWS,
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_extension = pytest.mark.skipif(native.obstacle("cpu") is not None, reason="needs golf_fast._C")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that passes for a GPU."""
    monkeypatch.setattr(native, "obstacle", lambda device_kind: None)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(bitpack_gpu, "record", lambda run: run)
    monkeypatch.setattr(bitpack_gpu, "DEVICE", "cpu")
    monkeypatch.setitem(sys.modules, "torchao", None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[bitpack_gpu.Matrix]:
    """16 KiB unpacked; and matrices whose rows are no blocks, and whose last block is not full."""
    matrices = [bitpack_gpu.Matrix(7, 129, 5), bitpack_gpu.Matrix(4, 128, 6), bitpack_gpu.Matrix(8, 33, 6)]
    monkeypatch.setattr(bitpack_gpu, "UNPACKED_BYTES", 1 << 14)
    monkeypatch.setattr(bitpack_gpu, "seed_matrices", lambda: matrices)
    return matrices


def packing(label: str) -> bool:
    return not label.startswith("unpack")


def test_full_size_cases_count_each_byte_once(with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_tensor(*shape: object, **options: object) -> torch.Tensor:
        raise AssertionError("a case made a tensor before it ran")

    monkeypatch.setattr(torch, "randn", no_tensor)
    monkeypatch.setattr(torch, "randint", no_tensor)
    cases = {case.label: case for case in bitpack.cases("cuda")}
    checked = {f"{label}, checked": moved for label, moved in BYTES_MOVED.items() if packing(label)}
    assert {label: case.bytes_moved for label, case in cases.items()} == BYTES_MOVED | checked
    assert {case.implementation for case in cases.values()} == {"native"}
    for label, case in cases.items():
        versions = {"eager", "torch.compile"}
        alone = {"copy"} if packing(label) else {"copy"} | versions
        assert set(case.peers) == (versions if label in checked else alone), label
        assert set(case.peer_gates) == set(case.peers) - {"copy"}


def test_the_rate_is_bytes_in_and_out_over_our_time(with_gpu: None) -> None:
    case = next(bitpack.cases("cuda"))
    time = Timing(0.05, 0.05, 0.05)
    ceilings = {"ceiling_teraflops": 800.0, "ceiling_gigabytes_per_second": 2726.2976}
    row = results.record(case, Comparison("copy", time, time, 1.0, 1.0, 1.0, 51), ceilings)
    assert row["gigabytes_per_second"] == pytest.approx(2181.03808)  # 109,051,904 bytes in 50 us
    assert row["percent_of_copy"] == pytest.approx(80.0)


def run_all() -> int:
    """Run every case and peer, and return how many cases there were."""
    count = 0
    for case in bitpack_gpu.cases():
        count += 1
        assert case.gate() is None, case.label
        case.ours()
        for name, peer in case.peers.items():
            assert peers.obstacle(case, name) is None, (case.label, name)
            peer()
    return count


@needs_extension
def test_every_case_runs_and_passes_its_gate(with_gpu: None, small: list[bitpack_gpu.Matrix]) -> None:
    assert run_all() == 18


@pytest.mark.gpu
@needs_gpu
def test_every_case_runs_on_a_gpu_recorded_and_compiled(small: list[bitpack_gpu.Matrix]) -> None:
    assert run_all() == 18


@needs_extension
@pytest.mark.parametrize("work", bitpack_gpu.WORKS, ids=lambda work: work.title.split()[0])
def test_bytes_are_those_of_the_tensors(
    work: bitpack_gpu.Work, with_gpu: None, small: list[bitpack_gpu.Matrix]
) -> None:
    job = bitpack_gpu.Job(work, small)
    tensors = [tensor for side in (job.inputs, job.outputs) for matrix in side for tensor in matrix]
    assert work.bytes_moved(small) == sum(tensor.nbytes for tensor in tensors)


def does_nothing(*arguments: object) -> None:
    pass


def skips_the_last_byte(into: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        into(*arguments)
        arguments[-1].view(torch.uint8).view(-1)[-1] ^= 1

    return run


@needs_extension
@pytest.mark.parametrize("off", [lambda into: does_nothing, skips_the_last_byte], ids=["nothing written", "a bit off"])
@pytest.mark.parametrize("work", bitpack_gpu.WORKS, ids=lambda work: work.title.split()[0])
def test_the_gate_sees_what_is_wrong(
    work: bitpack_gpu.Work,
    off: Callable[[Callable[..., None]], Callable[..., None]],
    with_gpu: None,
    small: list[bitpack_gpu.Matrix],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bitpack_gpu, "WORKS", (replace(work, into=off(work.into)),))
    for case in bitpack_gpu.cases():
        assert "not the reference's" in case.gate(), case.label


def test_the_gate_sees_what_only_the_first_call_wrote(with_gpu: None, small: list[bitpack_gpu.Matrix]) -> None:
    job = bitpack_gpu.Job(bitpack_gpu.WORKS[0], small)
    written: list[list[tuple[torch.Tensor, ...]]] = []

    def once() -> list[tuple[torch.Tensor, ...]]:
        if not written:
            written.append([tuple(tensor.clone() for tensor in right) for right in job.expected])
        return written[0]

    assert job.gate(once) == "matrix 0: 903 of 903 bytes of torch.int8 are not the reference's"


def stand_in(shift: int) -> dict[str, ModuleType]:
    """torchao's module, with functions that compute what its own are documented to, values off by `shift`."""

    def pack(data: torch.Tensor, elem_size: int) -> tuple[torch.Tensor, ...]:
        assert data.dtype == torch.uint8
        assert int(data.max()) < 2**elem_size
        return data & 15, data >> 4

    def unpack(data: tuple[torch.Tensor, ...], elem_size: int) -> torch.Tensor:
        return (data[0] | (data[1] << 4)) + shift

    names = bitpack_gpu.TORCHAO.split(".")
    modules = {".".join(names[:i]): ModuleType(names[i - 1]) for i in range(1, len(names) + 1)}
    modules[bitpack_gpu.TORCHAO].pack = pack
    modules[bitpack_gpu.TORCHAO].unpack = unpack
    return modules


@needs_extension
@pytest.mark.parametrize("shift", [0, 1], ids=["right", "off by one"])
def test_torchao_takes_part_where_it_is_right(
    shift: int, with_gpu: None, small: list[bitpack_gpu.Matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in stand_in(shift).items():
        monkeypatch.setitem(sys.modules, name, module)
    asked: list[registry.Case] = []
    for case in bitpack_gpu.cases():
        if "torchao" in case.peers:
            obstacle = peers.obstacle(case, "torchao")
            assert obstacle is None if shift == 0 else "not the reference's" in obstacle, case.label
            asked.append(case)
    assert [case.label.split()[0] for case in asked] == ["unpack"] * 3 + ["pack"] * 3
    assert bitpack.left_out("cuda") == ["bitpack against torchao, with scales: it packs integers alone"]


def test_what_is_missing_is_said(with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bitpack.left_out("cuda") == ["bitpack against torchao: not installed"]
    monkeypatch.setattr(native, "obstacle", lambda device_kind: f"there is no code for {device_kind}")
    assert bitpack.left_out("cuda") == ["bitpack: everything on a GPU, for there is no code for cuda"]
    assert list(bitpack.cases("cuda")) == []
