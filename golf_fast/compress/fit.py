"""An artifact that fills a byte target: the clip of the sigma quantizer is the dial, the written size what it shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from golf_fast.compress.container import encode
from golf_fast.compress.quantize import quantize
from golf_fast.compress.stored import Raw, Stored
from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

SLACK = 8192
"""Bytes that may stay empty below a target."""
FINEST, COARSEST = 1.0, 6.0
"""The clips that are tried, as logarithms, base 2: at 2 sigmas a twentieth of the weights is clipped, at 64 an int6
weight is one of about three values."""
NARROW = 4.0
"""A target that leads to a clip below so many sigmas is met with 6 bits everywhere: they buy more than clipping."""
TRIALS = 24


@dataclass(frozen=True)
class Fitted:
    """Quantized tensors whose artifact is as large as was asked for."""

    tensors: dict[str, Stored]
    config: CompressConfig
    """The given one with the clip and the widths that were found."""
    size: int
    """Bytes of the artifact."""
    trials: int
    """Artifacts that were made to find the clip at these widths."""


def fit(
    state_dict: dict[str, torch.Tensor],
    model_config: dict[str, Any],
    config: CompressConfig,
    code_bytes: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Fitted:
    """Quantize so that code and artifact fill `config.target_bytes`, leaving at most `SLACK` of them empty.

    The size falls by an eighth of the quantized weights, in bytes, for each doubling of the clip: so a few trials,
    each a whole artifact, find it. Equal input gives an equal result.

    Args:
        state_dict: as for `quantize`, pruned if it is to be.
        model_config: as for `write_artifact`.
        config: with `quantizer` sigma and a `target_bytes`.
        code_bytes: what the code takes of the target.
        progress: told of each trial in a line.

    Returns:
        The largest artifact found that fits, at the widths of `config`, or at int6 if those led to a clip below
        `NARROW`. More than `SLACK` bytes stay empty only where even the finest clip leaves them.

    Raises:
        InputError: even the coarsest clip is too large for the target, or `quantize` refuses a tensor.
    """
    assert config.quantizer == "sigma"
    found = _fit_clip(state_dict, model_config, config, code_bytes, progress)
    if found.config.clip_sigma >= NARROW or (config.mlp_bits, config.attention_bits) == (6, 6):
        return found
    wider = dataclasses.replace(config, mlp_bits=6, attention_bits=6)
    return _fit_clip(state_dict, model_config, wider, code_bytes, progress)


def _fit_clip(
    state_dict: dict[str, torch.Tensor],
    model_config: dict[str, Any],
    config: CompressConfig,
    code_bytes: int,
    progress: Callable[[str], None] | None,
) -> Fitted:
    """`fit` at the widths of `config`."""
    room = config.target_bytes - code_bytes
    best: Fitted | None = None
    smallest = 0
    over: float | None = None  # the coarsest clip known not to fit, and the finest known to; logarithms, base 2
    under: float | None = None
    clip = min(max(math.log2(config.clip_sigma), FINEST), COARSEST)
    for trial in range(1, TRIALS + 1):
        tried = _tried(state_dict, model_config, config, clip, trial)
        if progress:
            progress(f"clip_sigma:{tried.config.clip_sigma:g} artifact:{tried.size} room:{room}")
        if tried.size <= room:
            under = clip
            best = tried if best is None or tried.size > best.size else best
            if room - tried.size <= SLACK or clip == FINEST:
                break
        else:
            over, smallest = clip, tried.size
            if clip == COARSEST:
                break
        # A straight line to half the slack; the middle of the bracket where the line leaves it or is slow.
        clip += (tried.size - room + SLACK / 2) * 8 / max(_quantized_weights(tried.tensors), 1)
        if over is not None and under is not None and (trial % 4 == 0 or not over < clip < under):
            clip = (over + under) / 2
        clip = min(max(clip, FINEST), COARSEST)
    if best is None:
        raise InputError(
            f"compress.target_bytes is {config.target_bytes}: {code_bytes} bytes of code leave {room} for the artifact,"
            f" and the coarsest that is tried has {smallest}; set it to {smallest + code_bytes} or more"
        )
    return best


def _tried(
    state_dict: dict[str, torch.Tensor], model_config: dict[str, Any], config: CompressConfig, clip: float, trial: int
) -> Fitted:
    # Rounded, so that the clip in the header has few digits and says exactly what was used.
    clipped = dataclasses.replace(config, clip_sigma=round(2**clip, 4))
    tensors = quantize(state_dict, clipped)
    return Fitted(tensors, clipped, len(encode(tensors, model_config, clipped)), trial)


def _quantized_weights(tensors: dict[str, Stored]) -> int:
    return sum(math.prod(stored.shape) for stored in tensors.values() if not isinstance(stored, Raw))
