"""Weights to small integers: which form each tensor takes, and its numbers (seed.md section 5, steps 2 to 4)."""

import torch

from golf_fast.compress.quantiles import row_quantiles
from golf_fast.compress.stored import Raw, Stored, as_rows, store_integers
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

CONTROL_NAMES = (
    "attn_scale",
    "mlp_scale",
    "resid_mix",
    "q_gain",
    "skip_weights",
    "smear.gate",
    "bigram.scale",
    "backout_lambda",
)
"""Parts of the names of tensors that steer the others and so are never quantized."""

INT8_CLIP_QUANTILE = 99.99984 / 100.0
SMALLEST_SCALE = torch.finfo(torch.float16).tiny


def quantize(state_dict: dict[str, torch.Tensor], config: CompressConfig) -> dict[str, Stored]:
    """Give each tensor the first form of seed.md section 5 that fits it.

    Args:
        state_dict: finite tensors under their public names, on any device.

    Returns:
        A `Stored` for each name, on the CPU.

    Raises:
        InputError: a value is not finite or does not fit float16, or a tensor has a type that no rule covers.
    """
    return {name: _store(name, tensor.detach().cpu().contiguous(), config) for name, tensor in state_dict.items()}


def _store(name: str, tensor: torch.Tensor, config: CompressConfig) -> Stored:
    if tensor.is_complex():
        raise InputError(f"{name}: its dtype is {tensor.dtype}; only real tensors can be stored")
    if not tensor.is_floating_point():
        return Raw(tensor)
    weights = tensor.float()
    if not bool(torch.isfinite(weights).all()):
        raise InputError(f"{name}: holds {_first_not_finite(weights)}; only finite weights can be stored")
    if weights.numel() <= config.fp16_max_elements:
        return Raw(_as_float16(name, weights))
    if any(control in name for control in CONTROL_NAMES):
        return Raw(weights)
    if any(kept in name for kept in config.fp16_keep):
        return Raw(_as_float16(name, weights))
    bits = _bits(name, config)
    if bits == 8:
        values, scales = quantize_int8(weights)
    elif config.quantizer == "sigma":
        values, scales = quantize_sigma(weights, bits, config.clip_sigma)
    else:
        values, scales = quantize_absmax(weights, bits)
    if not bool(torch.isfinite(scales).all()):
        raise InputError(f"{name}: its largest magnitude is {weights.abs().max():g}; its scale must fit float16")
    return store_integers(values, scales, bits)


def _bits(name: str, config: CompressConfig) -> int:
    if ".mlp." in name:
        return config.mlp_bits
    if ".attn." in name or "bigram" in name:
        return config.attention_bits
    return 8


def quantize_absmax(weights: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric integers whose scale maps the largest magnitude of a row to `c = 2^(bits-1) - 1`.

    The rounding of the scale to float16 happens first, so the integers belong to the scale that is stored. A tensor
    that is not 2-D has one scale without the floor of the smallest normal float16: it may round to 0, and then
    every integer but those of zeros is at a limit and stands for 0.

    Args:
        weights: float32, any shape with at least one element.
        bits: 2 to 8.

    Returns:
        int8 values of the same shape within [-c-1, c], and float16 scales [rows] ([1] if not 2-D).
    """
    limit = 2 ** (bits - 1) - 1
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    scales = (rows.abs().amax(dim=1) / limit).clamp_min(1e-12).to(torch.float16)
    if weights.ndim == 2:
        scales = scales.clamp_min(SMALLEST_SCALE)
    return _rounded(weights, scales, limit), scales


def quantize_sigma(weights: torch.Tensor, bits: int, clip_sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric integers whose scale maps `clip_sigma` root mean squares of a row to `c = 2^(bits-1) - 1`.

    Magnitudes beyond that are clipped. A row of mean 0 has its standard deviation as root mean square; unlike that, it
    does not vanish for a constant row. An entropy coder then needs about `log2(4.13 c / clip_sigma)` bits a weight,
    whatever `bits` is, as long as few magnitudes are clipped.

    Args:
        weights: float32, any shape with at least one element.
        bits: 2 to 8.
        clip_sigma: more than 0.

    Returns:
        int8 values of the same shape within ±c, and float16 scales [rows] ([1] if not 2-D), each at least the smallest
        normal float16.
    """
    limit = 2 ** (bits - 1) - 1
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    # Sums in float64: their rounding then cannot depend on how many threads added them up.
    rms = rows.double().square().mean(dim=1).sqrt()
    scales = (rms * (clip_sigma / limit)).to(torch.float16).clamp_min(SMALLEST_SCALE)
    return _rounded(weights, scales, limit).clamp_min(-limit), scales


def _rounded(weights: torch.Tensor, scales: torch.Tensor, limit: int) -> torch.Tensor:
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    scaled = torch.round(rows / scales.float()[:, None]).nan_to_num_(nan=0.0, posinf=limit, neginf=-limit - 1)
    return scaled.clamp_(-limit - 1, limit).to(torch.int8).reshape(weights.shape)


def quantize_int8(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric 8-bit integers of a row clipped at its 0.9999984 quantile.

    The division is by the scale before it is rounded to float16.

    Args:
        weights: float32, any shape with at least one element.

    Returns:
        int8 values of the same shape within ±127, and scales: float16 [rows], each at least 1/127; float32 [1] if
        the tensor is not 2-D, then 1 for a tensor of zeros.
    """
    rows = weights.reshape(as_rows(tuple(weights.shape)))
    clip = row_quantiles(rows.abs(), INT8_CLIP_QUANTILE)
    floored = (clip / 127.0).clamp_min(1.0 / 127.0)
    scales = floored if weights.ndim == 2 else torch.where(clip > 0, clip / 127.0, 1.0)
    clipped = torch.maximum(torch.minimum(rows, clip[:, None]), -clip[:, None])
    values = torch.round(clipped / scales[:, None]).clamp_(-127, 127).to(torch.int8).reshape(weights.shape)
    return values, scales.to(torch.float16) if weights.ndim == 2 else scales


def _as_float16(name: str, weights: torch.Tensor) -> torch.Tensor:
    half = weights.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise InputError(f"{name}: its largest magnitude is {weights.abs().max():g}; float16 ends at 65504")
    return half


def _first_not_finite(weights: torch.Tensor) -> str:
    flat = weights.reshape(-1)
    position = int(torch.isfinite(flat).logical_not().nonzero()[0])
    return f"{flat[position].item()} at element {position}"
