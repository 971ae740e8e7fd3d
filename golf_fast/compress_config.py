"""The configuration of compression, checked on construction.

`golf_fast.config` has the rest of what a run is, and gives these names too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from golf_fast.checks import later, require, require_not_negative, require_numbers, require_positive

CodecName = Literal["rans", "zstd", "brotli"]
"""Coders of the artifact's quantized integers; a reader knows them all."""
CLIPS = {"attention": "attention_clip_sigma", "embedding": "embedding_clip_sigma"}
"""Groups of tensors that may have a clip of their own, each with its setting."""


@dataclass(frozen=True)
class CompressConfig:
    """From weights to the artifact."""

    prune_quantile: float = 0.03
    """Share of the smallest magnitudes of each large matrix that is zeroed; 0: none."""
    prune_min_elements: int = 65536
    """Matrices of more elements than this are pruned."""
    fp16_max_elements: int = 8192
    """Tensors of at most this many elements are kept in fp16."""
    fp16_keep: tuple[str, ...] = ("tok_emb", "blocks.8.attn.c_k")
    """Tensors whose name contains one of these are kept in fp16."""
    mlp_bits: Literal[5, 6, 7, 8] = 5
    """Width of the integers of the MLP matrices, in bits."""
    attention_bits: Literal[5, 6, 7, 8] = 6
    """Width of the integers of the attention matrices, in bits."""
    bigram_bits: Literal[5, 6, 7, 8] = 6
    """Width of the integers of the bigram tensors, in bits."""
    embedding_bits: Literal[5, 6, 7, 8] = 8
    """Width of the integers of the token embedding and the output matrix, in bits, where fp16_keep does not name
    them."""
    quantizer: Literal["absmax", "sigma", "gptq", "trellis", "gptq_trellis"] = "absmax"
    """absmax: a row's scale is from its largest magnitude, and values go to the nearest integer (the published
    submission's). sigma: the scale is from the row's root mean square times clip_sigma, the dial of the size. gptq:
    scales as in sigma, and weights not yet rounded make up for each rounding error, as training tokens weigh it.
    trellis: half the step of sigma and no clip, on a path through a trellis: 0.19 bits a weight less at the same error,
    under the codec rans. gptq_trellis: gptq with it."""
    clip_sigma: float = 8.0
    """Under sigma and gptq, the number of root mean squares of its row that the largest integer stands for: more
    is coarser and smaller. Under trellis and gptq_trellis the same step is cut into halves and nothing is clipped."""
    attention_clip_sigma: float | None = later(None)
    """The same for the attention matrices; None: clip_sigma. A fit to target_bytes scales all clips alike."""
    embedding_clip_sigma: float | None = later(None)
    """The same for the token embedding and the output matrix; None: clip_sigma."""
    trellis_states: Literal[4, 8] = later(8)
    """States of the trellis: 8 take 0.015 bits a weight less than 4 at the same error, and twice the time."""
    trellis_rate: float = later(0.0)
    """What a bit counts against squared error when a path is chosen, as a share of the slope of the rate-distortion
    bound: 1 saves 0.009 bits at the same error, but by smaller weights, which a model minds more; 0: nothing."""
    gate_int8: bool = later(False)
    """Whether the gates of attention's heads are integers of 8 bits, whatever their size and the quantizer."""
    scale_mantissa_bits: int = 10
    """Bits of the mantissa of each row's fp16 scale that are used: fewer make the scales smaller in the file. A scale
    is rounded before its row is, so nothing but the choice of scales gets coarser."""
    calibration_tokens: int = 0
    """Training tokens that gptq, gptq_trellis and the low-rank correction of outputs look at."""
    calibration_seconds: float = 0.0
    """Share of train.max_seconds, in seconds, that is kept for calibrating and quantizing where that reads training
    tokens: training ends so much earlier. At most a quarter of the limit is kept. What is not done by then is dropped
    for quantizing by the weights only, so with 0 a run that ends by the clock does without training tokens."""
    low_rank: int = 0
    """Rank of the correction that is added to the worst quantized matrices; 0: none."""
    low_rank_tensors: int = 3
    """Number of matrices that get a low-rank correction."""
    low_rank_error: Literal["outputs", "weights"] = later("outputs")
    """Error that the correction takes away. outputs: that of the outputs for training tokens, where it is the largest
    share of them, by factors of 8 bits. weights: that of the weights, where it is largest (the published submission's),
    by a factor of 2 bits under one scale and one of 4 bits in groups of low_rank_group; it reads no tokens."""
    low_rank_group: int = later(64)
    """Under low_rank_error weights, number of neighbours in the factor of 4 bits that share a scale."""
    report_tokens: int = 0
    """Held-out training tokens on which the loss of each compression step and tensor is measured, off the clock and
    only for the report; 0: none."""
    target_bytes: int = 0
    """Choose the clips and the bits, then zero some of the smallest values, so that code and artifact together fill
    this many bytes and not one more; 0: as it is."""
    codec: CodecName = "rans"
    """Codec of the quantized integers: rans, an entropy coder under row and column scales, is the smallest and fastest;
    zstd is the published submission's; brotli needs the package of that name."""
    zstd_level: int = 22
    """Level of zstd: 1 is fastest, 22 smallest."""

    def __post_init__(self) -> None:
        require_numbers(self, "compress", low_rank=65536, low_rank_group=65536)
        require(0 <= self.prune_quantile < 1, "compress.prune_quantile", self.prune_quantile, "at least 0 and below 1")
        require_not_negative(self, "compress", "prune_min_elements", "fp16_max_elements", "target_bytes")
        require_not_negative(self, "compress", "calibration_tokens", "calibration_seconds", "report_tokens")
        require_not_negative(self, "compress", "low_rank", "low_rank_tensors")
        require_positive(self, "compress", "low_rank_group")
        require(
            self.low_rank_error in ("outputs", "weights"),
            "compress.low_rank_error",
            self.low_rank_error,
            "outputs or weights",
        )
        for name in ("mlp_bits", "attention_bits", "bigram_bits", "embedding_bits"):
            require(getattr(self, name) in (5, 6, 7, 8), f"compress.{name}", getattr(self, name), "from 5 to 8")
        quantizers = ("absmax", "sigma", "gptq", "trellis", "gptq_trellis")
        one_of = "absmax, sigma, gptq, trellis or gptq_trellis"
        require(self.quantizer in quantizers, "compress.quantizer", self.quantizer, one_of)
        require(self.trellis_states in (4, 8), "compress.trellis_states", self.trellis_states, "4 or 8")
        require(0 <= self.trellis_rate <= 10, "compress.trellis_rate", self.trellis_rate, "from 0 to 10")
        for name in ("clip_sigma", *CLIPS.values()):
            clip = getattr(self, name)
            require(clip is None or 1 <= clip <= 1000, f"compress.{name}", clip, "from 1 to 1000")
        require(
            0 <= self.scale_mantissa_bits <= 10,
            "compress.scale_mantissa_bits",
            self.scale_mantissa_bits,
            "from 0 to 10",
        )
        require(
            self.calibration_tokens > 0 or not self.calibrated,
            "compress.calibration_tokens",
            self.calibration_tokens,
            "more than 0 where compress.quantizer is gptq or gptq_trellis or compress.low_rank, of outputs, is not 0",
        )
        codecs = get_args(CodecName)
        require(self.codec in codecs, "compress.codec", self.codec, f"one of {', '.join(codecs)}")
        require(1 <= self.zstd_level <= 22, "compress.zstd_level", self.zstd_level, "from 1 to 22")

    @property
    def uses_gptq(self) -> bool:
        """Whether weights make up for the rounding errors of others."""
        return self.quantizer in ("gptq", "gptq_trellis")

    @property
    def uses_trellis(self) -> bool:
        """Whether integers follow a trellis."""
        return self.quantizer in ("trellis", "gptq_trellis")

    @property
    def calibrated(self) -> bool:
        """Whether quantizing reads training tokens."""
        return self.uses_gptq or (self.low_rank > 0 and self.low_rank_error == "outputs")

    def uncalibrated(self) -> CompressConfig:
        """The settings without calibration on training tokens: rounding by the weights only, and no output
        correction."""
        plain: dict[str, Literal["sigma", "trellis"]] = {"gptq": "sigma", "gptq_trellis": "trellis"}
        low_rank = self.low_rank if self.low_rank_error == "weights" else 0
        return dataclasses.replace(self, quantizer=plain.get(self.quantizer, self.quantizer), low_rank=low_rank)

    def clip_of(self, group: str) -> float:
        """Root mean squares of a row that the largest integer stands for in a group of tensors."""
        own: float | None = getattr(self, CLIPS[group]) if group in CLIPS else None
        return self.clip_sigma if own is None else own

    def with_clip(self, clip_sigma: float) -> CompressConfig:
        """The settings with another clip; the clips of groups that have their own are scaled by the same factor."""
        factor, scaled = clip_sigma / self.clip_sigma, dict[str, Any]()
        for name in CLIPS.values():
            own = getattr(self, name)
            scaled[name] = None if own is None else round(min(max(own * factor, 1.0), 1000.0), 4)
        return dataclasses.replace(self, clip_sigma=clip_sigma, **scaled)

    def notes(self) -> dict[str, Any]:
        """What an artifact says of how its integers were made: plain JSON values, for people."""
        notes: dict[str, Any] = {"prune_quantile": self.prune_quantile, "quantizer": self.quantizer}
        if self.quantizer != "absmax":
            clips = {name: getattr(self, name) for name in ("clip_sigma", *CLIPS.values())}
            notes |= {name: clip for name, clip in clips.items() if clip is not None}
        if self.uses_trellis:
            notes |= {"trellis_states": self.trellis_states, "trellis_rate": self.trellis_rate}
        return notes

    def coding(self) -> dict[str, Any]:
        """The keyword arguments with which `write_artifact` writes a run's artifact."""
        return {"codec": self.codec, "level": self.zstd_level, "notes": self.notes()}
