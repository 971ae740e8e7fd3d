"""Packing: every instruction set, and CUDA where there is a GPU, against the plain definition and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from golf_fast.ops import backends, bitpack, extension
from golf_fast.ops.bitpack import native, reference

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PATHS = [pytest.param((CPU, path), id=path) for path in ("portable", "avx2", "avx512")]
PATHS.append(pytest.param((CUDA, ""), id="cuda", marks=pytest.mark.gpu))
LENGTHS = [*range(301), 4095, 4096, 4097, 70001]
SHAPES = [
    (1, 1),
    (3, 5),
    (7, 129),
    (4, 128),
    (3, 1000),
    (300, 1),
    (2, 9001),
    (0, 5),
    (5, 0),
    (5,),
    (0,),
    (),
    (2, 3, 67),
]
GUARD = 64
"""Elements before and after an output that must stay untouched; a multiple of 16 bytes for every dtype."""


@pytest.fixture(params=PATHS)
def where(request: pytest.FixtureRequest) -> tuple[torch.device, str]:
    """A device and the instruction set to use there."""
    device, path = request.param
    obstacle = native.obstacle(device.type)
    if obstacle:
        pytest.skip(obstacle)
    if device == CPU and path not in native.cpu_paths():
        pytest.skip(f"this CPU cannot run {path}")
    return device, path


@pytest.fixture(params=[5, 6], ids=["int5", "int6"])
def bits(request: pytest.FixtureRequest) -> int:
    return request.param


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integers(shape: tuple[int, ...], bits: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=seeded(seed), dtype=torch.int8)


class Guarded:
    """Poisoned memory for an output between two guard bands."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        count = math.prod(shape)
        self.poison = math.nan if dtype.is_floating_point else 85
        self.memory = torch.full((count + 2 * GUARD,), self.poison, dtype=dtype, device=device)
        self.output = self.memory[GUARD : GUARD + count].view(shape)

    def checked(self) -> torch.Tensor:
        """The output, on the CPU, after a look at the bands."""
        bands = torch.cat([self.memory[:GUARD], self.memory[GUARD + self.output.numel() :]]).cpu()
        torch.testing.assert_close(bands, torch.full_like(bands, self.poison), rtol=0, atol=0, equal_nan=True)
        return self.output.cpu()


def test_layout_is_the_documented_one(bits: int) -> None:
    """One value other than -2^(bits-1), whose bits are all 0, lights up exactly the bits that the documents name."""
    n, lowest = 300, -(2 ** (bits - 1))
    blocks, high_bits = 3, bits - 4
    padding = np.zeros(blocks * 128, np.int64)
    padding[n:] = -lowest
    for i in [*range(0, 300, 7), 127, 128, 299]:
        values = torch.full((n,), lowest, dtype=torch.int8)
        values[i] = -1
        expected = np.zeros(bitpack.planes_size(n, bits), np.uint8)
        for j, u in [(i, -1 - lowest), *((j, int(padding[j])) for j in range(n, blocks * 128))]:
            block, at = divmod(j, 128)
            expected[64 * block + at % 64] |= (u & 15) << (4 * (at // 64))
            width = 16 * high_bits
            expected[64 * blocks + width * block + at % width] |= (u >> 4) << (high_bits * (at // width))
        np.testing.assert_array_equal(reference.pack(values, bits).numpy(), expected)


def test_pack_and_unpack_any_length(where: tuple[torch.device, str], bits: int) -> None:
    device, path = where
    for n in LENGTHS:
        values = integers((n,), bits, seed=n)
        expected = reference.pack(values, bits)
        planes = Guarded(expected.shape, torch.uint8, device)
        native.pack_into(values.to(device), bits, planes.output, path)
        assert torch.equal(planes.checked(), expected), n
        unpacked = Guarded((n,), torch.int8, device)
        native.unpack_into(planes.output, bits, unpacked.output, path)
        assert torch.equal(unpacked.checked(), values), n


def test_padding_is_not_read(where: tuple[torch.device, str], bits: int) -> None:
    """Any bytes are planes of something: what they hold beyond n must not matter."""
    device, path = where
    planes = torch.randint(0, 256, (bitpack.planes_size(130, bits),), generator=seeded(1), dtype=torch.uint8)
    values = Guarded((130,), torch.int8, device)
    native.unpack_into(planes.to(device), bits, values.output, path)
    assert torch.equal(values.checked(), reference.unpack(planes, bits, (256,))[:130])


def test_unpack_large_enough_to_stream(where: tuple[torch.device, str], bits: int) -> None:
    device, path = where
    n = (8 << 20) + 77  # streaming stores begin at 8 MiB
    planes = torch.randint(0, 256, (bitpack.planes_size(n, bits),), generator=seeded(2), dtype=torch.uint8)
    expected = reference.unpack(planes, bits, (n,))
    values = Guarded((n,), torch.int8, device)
    native.unpack_into(planes.to(device), bits, values.output, path)
    assert torch.equal(values.checked(), expected)
    if device == CPU:  # an address that streaming stores cannot take
        memory = torch.empty(n + 1, dtype=torch.int8)
        native.unpack_into(planes, bits, memory[1:], path)
        assert torch.equal(memory[1:], expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_with_scales(where: tuple[torch.device, str], bits: int, shape: tuple[int, ...]) -> None:
    device, path = where
    weights = torch.randn(shape, generator=seeded(3)) * 10 ** torch.randint(-3, 4, shape, generator=seeded(4))
    expected_planes, expected_scales = reference.quantize_pack(weights, bits)
    planes = Guarded(expected_planes.shape, torch.uint8, device)
    scales = Guarded(expected_scales.shape, torch.float16, device)
    native.quantize_pack_into(weights.to(device), bits, planes.output, scales.output, path)
    assert torch.equal(planes.checked(), expected_planes)
    assert torch.equal(scales.checked(), expected_scales)
    for dtype in (torch.float32, torch.bfloat16):
        out = Guarded(shape, dtype, device)
        native.unpack_dequantize_into(planes.output, scales.output, bits, out.output, path)
        expected = reference.unpack_dequantize(expected_planes, expected_scales, bits, shape, dtype)
        assert torch.equal(out.checked(), expected)


def test_dequantize_every_scale(where: tuple[torch.device, str], bits: int) -> None:
    """All 65,536 fp16 scales times some integers, NaN and infinity among them, as rows of three values."""
    device, path = where
    scales = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.float16)
    values = integers((65536, 3), bits, seed=5)
    planes = reference.pack(values, bits)
    product = values.double() * scales.double().unsqueeze(1)  # exact: 6 bits times 11
    for dtype in (torch.float32, torch.bfloat16):
        out = Guarded((65536, 3), dtype, device)
        native.unpack_dequantize_into(planes.to(device), scales.to(device), bits, out.output, path)
        torch.testing.assert_close(out.checked(), product.to(dtype), rtol=0, atol=0, equal_nan=True)


def exact_row(row: list[float], bits: int, floored: bool) -> tuple[list[int], np.float16]:
    """A row quantized by rational arithmetic where the definition is exact and NumPy's floats where it rounds."""
    c = 2 ** (bits - 1) - 1
    largest = np.float32(max((abs(x) for x in row), default=0.0))
    scale = np.float16(np.maximum(largest / np.float32(c), np.float32(1e-12)))
    scale = max(scale, np.float16(2.0**-14)) if floored else scale
    out = []
    for x in row:
        if scale == 0:
            out.append(0 if x == 0 else (c if x > 0 else -c - 1))
        else:
            # the float32 quotient, then ties to even (Python's round)
            out.append(max(-c - 1, min(c, round(Fraction(float(np.float32(x) / np.float32(scale)))))))
    return out, scale


EDGES = {
    "zeros": [0.0, -0.0, 0.0],
    "one element": [0.3],
    "one negative element": [-7.0],
    "ties": [float(c) / 2 for c in range(-63, 64)],
    "ties at a scale of 1": [31.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 30.5, -30.5],
    "ties at a scale of 1, int5": [15.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 14.5, -14.5],
    "scale at the floor": [31 * 2.0**-14, 2.0**-15, 3 * 2.0**-15, -(2.0**-15)],
    "below the floor": [1e-5, -1e-5, 5e-6, 2.0**-15],
    "subnormal weights": [1e-40, -1e-45, 0.0],
    "a scale that is a subnormal half": [31 * 2.0**-24, -(2.0**-24), 2.0**-25, 1.5e-6],
    "a scale that rounds to zero": [1e-8, -1e-8, 0.0],
    "largest scale": [65504.0 * 15, -65504.0 * 15, 1.0],
    "just below overflow": [65519.0 * 15, 1.0],
}


@pytest.mark.parametrize("edge", EDGES, ids=str)
@pytest.mark.parametrize("shape", ["matrix", "vector"])
def test_exact_integers(where: tuple[torch.device, str], bits: int, edge: str, shape: str) -> None:
    device, path = where
    row = [float(np.float32(x)) for x in EDGES[edge]]
    weights = torch.tensor([row] if shape == "matrix" else row)
    expected, scale = exact_row(row, bits, shape == "matrix")
    for values, scales in [
        reference.quantize(weights, bits),
        _quantized(weights.to(device), bits, path),
    ]:
        assert values.flatten().tolist() == expected
        assert scales.tolist() == [float(scale)]


def _quantized(weights: torch.Tensor, bits: int, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    planes = torch.empty(bitpack.planes_size(weights.numel(), bits), dtype=torch.uint8, device=weights.device)
    scales = torch.empty(reference.rows_and_cols(weights.shape)[0], dtype=torch.float16, device=weights.device)
    native.quantize_pack_into(weights, bits, planes, scales, path)
    return reference.unpack(planes.cpu(), bits, weights.shape), scales.cpu()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 65520.0 * 31, 3e38])
def test_weights_without_a_scale_are_rejected(where: tuple[torch.device, str], bits: int, wrong: float) -> None:
    device, path = where
    weights = torch.ones(5, 130)
    weights[3, 129] = wrong
    for quantize in (reference.quantize_pack, lambda weights, bits: _quantized(weights, bits, path)):
        with pytest.raises(ValueError, match=r"^weights: row 3 reaches .*; the fp16 scale of int[56] allows"):
            quantize(weights.to(device), bits)


def test_values_out_of_range_are_rejected(where: tuple[torch.device, str], bits: int) -> None:
    device, path = where
    limit = 2 ** (bits - 1)
    for n in (1, 127, 128, 200, 1000):
        for at in {0, n // 2, n - 1}:
            for wrong in (limit, -limit - 1, 127, -128):
                values = integers((n,), bits)
                values[at] = wrong
                planes = torch.empty(bitpack.planes_size(n, bits), dtype=torch.uint8, device=device)
                with pytest.raises(ValueError, match=f"^values: {wrong} is out of range; int{bits} holds"):
                    native.pack_into(values.to(device), bits, planes, path)
    with pytest.raises(ValueError, match=f"^values: {limit} is out of range"):
        reference.pack(torch.tensor([0, limit], dtype=torch.int8), bits)


@pytest.fixture(params=["native", "reference"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    obstacle = native.obstacle("cpu")
    if request.param == "native" and obstacle:
        pytest.skip(obstacle)
    monkeypatch.setenv(backends.VARIABLE, f"bitpack={request.param}")
    backends.forget()
    yield request.param
    backends.forget()


def test_strides_do_not_matter(backend: str, bits: int) -> None:
    values = integers((40, 30), bits)
    assert torch.equal(bitpack.pack(values.t(), bits), bitpack.pack(values.t().contiguous(), bits))
    weights = torch.randn(60, 40, generator=seeded(6))
    for a, b in zip(
        bitpack.quantize_pack(weights[::2, 1:], bits),
        bitpack.quantize_pack(weights[::2, 1:].contiguous(), bits),
        strict=True,
    ):
        assert torch.equal(a, b)
    planes = bitpack.pack(values, bits)
    spread = planes.repeat_interleave(2)[::2]
    assert torch.equal(bitpack.unpack(spread, bits, (40, 30)), values)


def test_no_gradient_reaches_through(backend: str, bits: int) -> None:
    planes, scales = bitpack.quantize_pack(torch.nn.Parameter(torch.ones(3, 4)), bits)
    assert not planes.requires_grad
    assert not scales.requires_grad


BAD_CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "bits": (lambda: bitpack.pack(torch.zeros(3, dtype=torch.int8), 4), "bitpack: bits is 4; it must be 5 or 6"),
    "values": (lambda: bitpack.pack(torch.zeros(3), 5), "bitpack: values is torch.float32; it must be torch.int8"),
    "weights": (lambda: bitpack.quantize_pack(torch.zeros(3).half(), 5), "bitpack: weights is torch.float16"),
    "planes": (
        lambda: bitpack.unpack(torch.zeros(80, dtype=torch.uint8), 5, (129,)),
        r"bitpack: planes is \(80,\); it must be \(160,\) for \(129,\) of int5",
    ),
    "plane dtype": (lambda: bitpack.unpack(torch.zeros(80), 5, (128,)), "bitpack: planes is torch.float32"),
    "scales": (
        lambda: bitpack.unpack_dequantize(torch.zeros(80, dtype=torch.uint8), torch.ones(2).half(), 5, (3, 4)),
        r"bitpack: scales is \(2,\); it must be \(3,\)",
    ),
    "dtype": (
        lambda: bitpack.unpack_dequantize(
            torch.zeros(80, dtype=torch.uint8), torch.ones(3).half(), 5, (3, 4), torch.float64
        ),
        "bitpack: dtype is torch.float64; it must be",
    ),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_calls_are_named(call: str) -> None:
    function, message = BAD_CALLS[call]
    with pytest.raises(ValueError, match=message):
        function()


def test_tensors_are_checked_before_their_addresses_pass() -> None:
    if native.obstacle("cpu"):
        pytest.skip(native.obstacle("cpu"))
    memory = torch.zeros(400, dtype=torch.uint8)
    as_int8 = memory.view(torch.int8)
    with pytest.raises(ValueError, match="planes: it shares memory with values"):
        native.pack_into(as_int8[:128], 5, memory[100:180])
    native.pack_into(as_int8[:100], 5, memory[100:180])
    with pytest.raises(ValueError, match="values: its strides are"):
        native.unpack_into(memory[:80], 5, torch.zeros(64, dtype=torch.int8)[::2])
    with pytest.raises(ValueError, match="planes: it has 79 elements; it must have 80"):
        native.pack_into(as_int8[200:328], 5, memory[:79])
    with pytest.raises(ValueError, match=r"planes: it is torch\.int8"):
        native.pack_into(as_int8[200:328], 5, as_int8[:80])
    with pytest.raises(ValueError, match="planes: it is on meta"):
        native.pack_into(as_int8[200:328], 5, torch.empty(80, dtype=torch.uint8, device="meta"))
    with pytest.raises(ValueError, match="bitpack path sse2: not one that this CPU can run"):
        native.pack_into(as_int8[200:328], 5, memory[:80], path="sse2")


def test_missing_extension_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "missing", "golf_fast._C cannot be imported (why)")
    backends.forget()
    try:
        chosen = backends.resolve("bitpack", "cpu")
        assert chosen.name == "plain"
        assert "not native: golf_fast._C cannot be imported (why)" in chosen.reason
        values = integers((5, 5), 6)
        assert torch.equal(bitpack.unpack(bitpack.pack(values, 6), 6, (5, 5)), values)
    finally:
        backends.forget()


def round_trip(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    planes, scales = bitpack.quantize_pack(weights * 2, 6)
    values = bitpack.unpack(planes, 6, weights.shape)
    again = bitpack.pack(values + 0, 6)
    return bitpack.unpack_dequantize(again, scales, 6, weights.shape) + 1, values


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiled_without_a_graph_break(dynamic: bool) -> None:
    compiled = torch.compile(round_trip, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (3, 5):
        weights = torch.randn(rows, 40, generator=seeded(7))
        for a, b in zip(compiled(weights), round_trip(weights), strict=True):
            assert torch.equal(a, b)


@pytest.mark.gpu
def test_on_a_stream_and_in_a_graph(bits: int) -> None:
    if native.obstacle("cuda"):
        pytest.skip(native.obstacle("cuda"))
    weights = torch.randn(33, 257, device=CUDA)
    expected = round_trip(weights)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        on_stream = round_trip(weights)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = round_trip(weights)
    weights.neg_()
    graph.replay()
    for a, b, c, d in zip(expected, on_stream, captured, round_trip(weights), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(c, d)


@pytest.mark.gpu
def test_addresses_that_are_not_aligned_are_copied(bits: int) -> None:
    if native.obstacle("cuda"):
        pytest.skip(native.obstacle("cuda"))
    values = integers((1001,), bits).to(CUDA)[1:]
    planes = torch.cat([torch.zeros(1, dtype=torch.uint8, device=CUDA), bitpack.pack(values, bits)])[1:]
    assert torch.equal(bitpack.unpack(planes, bits, (1000,)), values)
