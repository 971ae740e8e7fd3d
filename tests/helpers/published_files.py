"""Files as the record scripts write them, in a few lines of their own, and the weights that the scripts read back."""

from __future__ import annotations

import io
import zlib
from typing import Any, Literal

import torch
import zstandard
from torch import Tensor

State = dict[str, Tensor]
Compressor = Literal["zstd", "zlib"]


def pack(content: object, compressor: Compressor = "zstd") -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return zlib.compress(file.getvalue(), 9) if compressor == "zlib" else zstandard.compress(file.getvalue(), 3)


def rows(weights: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """int8 within [-limit - 1, limit] and a float16 scale for each row."""
    scales = (weights.float().abs().amax(1) / limit).clamp_min(6.2e-5).half()
    return (weights.float() / scales.float()[:, None]).round().clamp(-limit - 1, limit).to(torch.int8), scales


def mixed(state: State) -> tuple[dict[str, Any], State]:
    """Matrices of the MLPs int5, of attention and bigrams int6, `lm_head` int8; everything else float16."""
    weights: State = {}
    meta: dict[str, object] = {}
    restored: State = {}
    for name, tensor in state.items():
        bits = 5 if ".mlp." in name else 6 if ".attn.c_" in name or "bigram.embed" in name else 8
        if tensor.ndim < 2 or name in ("tok_emb.weight", "skip_weights") or "resid_mix" in name:
            control = "skip" in name
            weights[name] = tensor.float() if control else tensor.half()
            meta[name] = "passthrough_ctrl" if control else "passthrough_fp16" if "tok" in name else "passthrough"
            restored[name] = weights[name].to(tensor.dtype)
            continue
        q, scale = rows(tensor, 2 ** (bits - 1) - 1)
        weights |= {f"{name}.q": q, f"{name}.scale": scale}
        meta[name] = {"type": f"int{bits}"}
        restored[name] = (q.float() * scale.float()[:, None]).to(tensor.dtype)
    return {"w": weights, "m": meta}, restored


def int8(state: State) -> tuple[dict[str, Any], State]:
    """Matrices int8, everything else float16, or float32 where it steers."""
    content: dict[str, Any] = {"__quant_format__": "int8_clean_per_row_v1"}
    content |= {key: {} for key in ("quantized", "scales", "dtypes", "passthrough", "qmeta", "passthrough_orig_dtypes")}
    restored: State = {}
    for name, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.ndim < 2 or name == "skip_weights" or "resid_mix" in name:
            small = tensor.ndim == 0
            content["passthrough"][name] = tensor.half() if small else tensor.float()
            if small:
                content["passthrough_orig_dtypes"][name] = dtype
            restored[name] = content["passthrough"][name].to(tensor.dtype)
            continue
        q, scale = rows(tensor, 127)
        content["quantized"][name], content["scales"][name], content["dtypes"][name] = q, scale, dtype
        content["qmeta"][name] = {"scheme": "per_row", "axis": 0}
        restored[name] = (q.float() * scale.float()[:, None]).to(tensor.dtype)
    return content, restored
