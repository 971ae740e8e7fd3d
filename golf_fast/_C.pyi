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

activations_version: int

def activations_paths() -> list[str]: ...
def activations_has_threads() -> bool: ...
def activations_parts(rows: int) -> int: ...

_View = tuple[int, int, int, int]
"""Heads: address, then strides of batch, position and head, in elements."""

# Addresses may be 0 where csrc/activations/activations.hpp says so.
def softcap_cross_entropy(
    bfloat16: bool,
    logits: int,
    targets: int,
    scales: int,
    losses: int,
    rows: int,
    vocabulary: int,
    softcap: float,
    gradient: bool,
    threads: int,
    path: str,
) -> None: ...
def residual_mix(
    bfloat16: bool,
    x: int,
    x0: int,
    shares: int,
    branch: int,
    skip: int,
    skip_weight: int,
    stream: int,
    mixed: int,
    normed: int,
    factors: int,
    rows: int,
    width: int,
    eps: float,
    threads: int,
    path: str,
) -> None: ...
def residual_mix_gradient(
    bfloat16: bool,
    d_mixed: int,
    d_normed: int,
    d_out: int,
    stream: int,
    x0: int,
    shares: int,
    factors: int,
    skip: int,
    skip_weight: int,
    d_stream: int,
    d_x0: int,
    d_skip: int,
    parts: int,
    rows: int,
    width: int,
    threads: int,
    path: str,
) -> None: ...
def linear_residual(
    bfloat16: bool, residual: int, out: int, factors: int, rows: int, width: int, eps: float, threads: int, path: str
) -> None: ...
def linear_residual_gradient(
    bfloat16: bool,
    grad: int,
    out: int,
    factors: int,
    d_factors: int,
    d_out: int,
    rows: int,
    width: int,
    threads: int,
    path: str,
) -> None: ...
def rms_norm(
    bfloat16: bool, x: int, out: int, factors: int, rows: int, width: int, eps: float, threads: int, path: str
) -> None: ...
def rms_norm_gradient(
    bfloat16: bool, grad: int, x: int, factors: int, d_x: int, rows: int, width: int, threads: int, path: str
) -> None: ...
def relu2(
    bfloat16: bool, pre: int, post: int, factors: int, rows: int, hidden: int, slope: float, threads: int, path: str
) -> None: ...
def relu2_gradient(
    bfloat16: bool, grad: int, pre: int, factors: int, rows: int, hidden: int, slope: float, threads: int, path: str
) -> None: ...
def row_factor_gradient(
    bfloat16: bool, d_x: int, x: int, factors: int, d_factors: int, rows: int, width: int, threads: int, path: str
) -> None: ...
def qk_norm_rope(
    bfloat16: bool,
    source: _View,
    to: _View,
    cosines: int,
    sines: int,
    gains: int,
    batch: int,
    positions: int,
    heads: int,
    head_dim: int,
    pairs: int,
    eps: float,
    threads: int,
    path: str,
) -> None: ...
def qk_norm_rope_gradient(
    bfloat16: bool,
    grad: _View,
    x: _View,
    d_x: _View,
    cosines: int,
    sines: int,
    gains: int,
    parts: int,
    batch: int,
    positions: int,
    heads: int,
    head_dim: int,
    pairs: int,
    eps: float,
    threads: int,
    path: str,
) -> None: ...
def copy_heads(
    bfloat16: bool,
    source: _View,
    to: _View,
    batch: int,
    positions: int,
    heads: int,
    head_dim: int,
    threads: int,
    path: str,
) -> None: ...
def exclusive_gate(
    bfloat16: bool,
    y: int,
    v: _View,
    gate: int,
    out: int,
    batch: int,
    positions: int,
    kv_heads: int,
    group: int,
    head_dim: int,
    smallest: float,
    threads: int,
    path: str,
) -> None: ...
def exclusive_gate_gradient(
    bfloat16: bool,
    grad: int,
    y: int,
    v: _View,
    gate: int,
    d_y: int,
    d_v: int,
    d_gate: int,
    batch: int,
    positions: int,
    kv_heads: int,
    group: int,
    head_dim: int,
    smallest: float,
    threads: int,
    path: str,
) -> None: ...
def lane_mix(
    bfloat16: bool,
    first: int,
    second: int,
    attended: int,
    hidden: int,
    kept: int,
    shares: int,
    one: int,
    two: int,
    rows: int,
    width: int,
    threads: int,
    path: str,
) -> None: ...
def lane_mix_gradient(
    bfloat16: bool,
    d_one: int,
    d_two: int,
    first: int,
    second: int,
    attended: int,
    hidden: int,
    kept: int,
    shares: int,
    d_first: int,
    d_second: int,
    d_attended: int,
    d_hidden: int,
    parts: int,
    rows: int,
    width: int,
    threads: int,
    path: str,
) -> None: ...
def gated_smear(
    bfloat16: bool,
    x: int,
    gate: int,
    share: int,
    begins: int,
    out: int,
    openings: int,
    rows: int,
    positions: int,
    width: int,
    channels: int,
    threads: int,
    path: str,
) -> None: ...
def gated_smear_gradient(
    bfloat16: bool,
    grad: int,
    x: int,
    gate: int,
    share: int,
    openings: int,
    d_x: int,
    parts: int,
    rows: int,
    positions: int,
    width: int,
    channels: int,
    threads: int,
    path: str,
) -> None: ...
def causal_softmax(
    bfloat16: bool,
    scores: int,
    lows: int,
    matrices: int,
    rows: int,
    keys: int,
    group: int,
    before: int,
    folds: int,
    scale: float,
    threads: int,
    path: str,
) -> None: ...
def causal_softmax_gradient(
    bfloat16: bool,
    grad: int,
    shares: int,
    lows: int,
    matrices: int,
    rows: int,
    keys: int,
    group: int,
    before: int,
    folds: int,
    scale: float,
    threads: int,
    path: str,
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
