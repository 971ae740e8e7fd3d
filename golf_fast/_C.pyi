"""The extension, built from csrc/ by setup.py. Functions take addresses and check nothing; use golf_fast.ops.

The *_cuda functions are there only in a build with CUDA; they return a cudaError_t.
"""

from typing import TypedDict

class BuildInfo(TypedDict):
    compiler: str
    cuda: str | None
    cuda_archs: list[str]
    cuda_note: str

def build_info() -> BuildInfo: ...
def cuda_error(code: int) -> tuple[str, str]: ...
def activations_paths() -> list[str]: ...
def activations_has_threads() -> bool: ...
def softcap_cross_entropy_float32(
    logits: int,
    targets: int,
    losses: int,
    rows: int,
    vocabulary: int,
    softcap: float,
    gradient: bool,
    threads: int,
    path: str = "",
) -> None: ...
def softcap_cross_entropy_bfloat16(
    logits: int,
    targets: int,
    losses: int,
    rows: int,
    vocabulary: int,
    softcap: float,
    gradient: bool,
    threads: int,
    path: str = "",
) -> None: ...
def bitpack_paths() -> list[str]: ...
def bitpack_pack(values: int, n: int, bits: int, planes: int, path: str = "") -> bool: ...
def bitpack_unpack(planes: int, n: int, bits: int, values: int, path: str = "") -> None: ...
def bitpack_unpack_dequantize(
    planes: int, scales: int, rows: int, cols: int, bits: int, bfloat16: bool, out: int, path: str = ""
) -> None: ...
def bitpack_quantize_pack(
    weights: int, rows: int, cols: int, bits: int, floored: bool, planes: int, scales: int, path: str = ""
) -> None: ...
def bitpack_pack_cuda(values: int, n: int, bits: int, planes: int, out_of_range: int, stream: int) -> int: ...
def bitpack_unpack_cuda(planes: int, n: int, bits: int, values: int, stream: int) -> int: ...
def bitpack_unpack_dequantize_cuda(
    planes: int, scales: int, rows: int, cols: int, bits: int, bfloat16: bool, out: int, stream: int
) -> int: ...
def bitpack_quantize_pack_cuda(
    weights: int, rows: int, cols: int, bits: int, floored: bool, planes: int, scales: int, stream: int
) -> int: ...
def rans_encode(values: int, rows: int, cols: int, bits: int) -> bytes: ...
def rans_decode(blob: int, size: int, values: int, count: int) -> None: ...
def trellis_quantize(
    weights: int,
    steps: int,
    shrink: int,
    matrices: int,
    rows: int,
    cols: int,
    states: int,
    values: int,
    threads: int = 1,
) -> None: ...
def trellis_quantize_block(
    weights: int,
    factor: int,
    steps: int,
    shrink: int,
    matrices: int,
    width: int,
    rows: int,
    states: int,
    values: int,
    errors: int,
    threads: int = 1,
) -> None: ...
