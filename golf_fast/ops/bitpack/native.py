"""Packing by the extension: the checks that stand between a tensor and its address, and the calls.

`path` picks the instruction set on a CPU, one of `cpu_paths()`; empty means the fastest. All give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from golf_fast.ops import extension
from golf_fast.ops.bitpack import reference

_FLOATS = (torch.float32, torch.bfloat16)
_ALIGNMENT = 16
"""Alignment of addresses on a GPU, in bytes."""


def obstacle(device_kind: str) -> str | None:
    """Why the extension cannot run on a kind of device, or None."""
    if extension.missing:
        return extension.missing
    if device_kind == "cuda" and extension.C.build_info()["cuda"] is None:
        return "golf_fast._C was built without CUDA"
    return None if device_kind in ("cpu", "cuda") else f"it has no kernels for {device_kind}"


def cpu_paths() -> list[str]:
    """Instruction sets that the extension can use on this CPU, slowest first; none without the extension."""
    return [] if extension.missing else extension.C.bitpack_paths()


def _check(
    inputs: dict[str, tuple[torch.Tensor, torch.dtype, int]], outputs: dict[str, tuple[torch.Tensor, torch.dtype, int]]
) -> None:
    """Raise ValueError unless every tensor has the given dtype and number of elements, is contiguous, is on one device
    (and there well aligned), and no output shares memory with another tensor."""
    tensors = {**inputs, **outputs}
    (first, *_), *_ = tensors.values()
    device = first.device
    spans = []
    for name, (tensor, dtype, numel) in tensors.items():
        if tensor.device != device:
            raise ValueError(f"{name}: it is on {tensor.device}; the other tensors are on {device}")
        if tensor.dtype != dtype:
            raise ValueError(f"{name}: it is {tensor.dtype}; it must be {dtype}")
        if tensor.numel() != numel:
            raise ValueError(f"{name}: it has {tensor.numel()} elements; it must have {numel}")
        if not tensor.is_contiguous():
            raise ValueError(f"{name}: its strides are {tensor.stride()}; it must be contiguous")
        start = tensor.data_ptr()
        if device.type == "cuda" and start % _ALIGNMENT:
            raise ValueError(f"{name}: its address is {start:#x}; it must be divisible by {_ALIGNMENT}")
        spans.append((start, start + tensor.nbytes, name))
    for start, end, name in spans:
        for other_start, other_end, other in spans:
            if name in outputs and other != name and start < other_end and other_start < end:
                raise ValueError(f"{name}: it shares memory with {other}; an output must be apart")


def _run(name: str, device: torch.device, *arguments: int | bool, path: str) -> bool | None:
    """Call `_C.bitpack_<name>` on a CPU, or its CUDA form on the current stream of a GPU.

    Raises:
        RuntimeError: CUDA refused; the message has the error's name.
    """
    assert not extension.missing, extension.missing
    if device.type == "cpu":
        result: bool | None = getattr(extension.C, f"bitpack_{name}")(*arguments, path)
        return result
    with torch.cuda.device(device):
        code = getattr(extension.C, f"bitpack_{name}_cuda")(*arguments, torch.cuda.current_stream(device).cuda_stream)
    if code:
        error, description = extension.C.cuda_error(code)
        raise RuntimeError(f"bitpack {name}: {error} ({description})")
    return None


def _capturing(device: torch.device) -> bool:
    """Whether the work is being recorded in a CUDA graph, when nothing may wait for its result."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def pack_into(values: torch.Tensor, bits: int, planes: torch.Tensor, path: str = "") -> None:
    """`pack` into existing `planes`."""
    n, device = values.numel(), values.device
    _check(
        {"values": (values, torch.int8, n)},
        {"planes": (planes, torch.uint8, reference.planes_size(n, bits))},
    )
    if device.type == "cpu":
        good = _run("pack", device, values.data_ptr(), n, bits, planes.data_ptr(), path=path)
    else:
        flag = torch.zeros(1, dtype=torch.int32, device=device)
        _run("pack", device, values.data_ptr(), n, bits, planes.data_ptr(), flag.data_ptr(), path=path)
        good = _capturing(device) or not flag.item()
    if not good:
        raise reference.out_of_range(values, bits)


def unpack_into(planes: torch.Tensor, bits: int, values: torch.Tensor, path: str = "") -> None:
    """`unpack` into existing `values`."""
    n = values.numel()
    _check(
        {"planes": (planes, torch.uint8, reference.planes_size(n, bits))},
        {"values": (values, torch.int8, n)},
    )
    _run("unpack", planes.device, planes.data_ptr(), n, bits, values.data_ptr(), path=path)


def unpack_dequantize_into(
    planes: torch.Tensor, scales: torch.Tensor, bits: int, weights: torch.Tensor, path: str = ""
) -> None:
    """`unpack_dequantize` into existing `weights`, float32 or bfloat16."""
    rows, cols = reference.rows_and_cols(weights.shape)
    if weights.dtype not in _FLOATS:
        raise ValueError(f"dtype: it is {weights.dtype}; it must be torch.float32 or torch.bfloat16")
    _check(
        {
            "planes": (planes, torch.uint8, reference.planes_size(rows * cols, bits)),
            "scales": (scales, torch.float16, rows),
        },
        {"weights": (weights, weights.dtype, rows * cols)},
    )
    narrow = weights.dtype == torch.bfloat16
    addresses = planes.data_ptr(), scales.data_ptr()
    _run("unpack_dequantize", planes.device, *addresses, rows, cols, bits, narrow, weights.data_ptr(), path=path)


def quantize_pack_into(
    weights: torch.Tensor, bits: int, planes: torch.Tensor, scales: torch.Tensor, path: str = ""
) -> None:
    """`quantize_pack` into existing `planes` and `scales`."""
    rows, cols = reference.rows_and_cols(weights.shape)
    _check(
        {"weights": (weights, torch.float32, rows * cols)},
        {
            "planes": (planes, torch.uint8, reference.planes_size(rows * cols, bits)),
            "scales": (scales, torch.float16, rows),
        },
    )
    floored = weights.dim() == 2
    addresses = planes.data_ptr(), scales.data_ptr()
    _run("quantize_pack", weights.device, weights.data_ptr(), rows, cols, bits, floored, *addresses, path=path)
    if not _capturing(weights.device) and not bool(torch.isfinite(scales).all()):
        raise reference.scale_overflow(weights, scales, bits)


def _addressable(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy of it that the kernels can read."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.is_cuda and tensor.data_ptr() % _ALIGNMENT else tensor


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    planes = values.new_empty(reference.planes_size(values.numel(), bits), dtype=torch.uint8)
    pack_into(_addressable(values), bits, planes)
    return planes


def unpack(planes: torch.Tensor, bits: int, shape: Sequence[int]) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    values = planes.new_empty(tuple(shape), dtype=torch.int8)
    unpack_into(_addressable(planes), bits, values)
    return values


def unpack_dequantize(
    planes: torch.Tensor, scales: torch.Tensor, bits: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    weights = planes.new_empty(tuple(shape), dtype=dtype)
    unpack_dequantize_into(_addressable(planes), _addressable(scales), bits, weights)
    return weights


def quantize_pack(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes, dtypes and errors as in `golf_fast.ops.bitpack`."""
    planes = weights.new_empty(reference.planes_size(weights.numel(), bits), dtype=torch.uint8)
    scales = weights.new_empty(reference.rows_and_cols(weights.shape)[0], dtype=torch.float16)
    quantize_pack_into(_addressable(weights), bits, planes, scales)
    return planes, scales
