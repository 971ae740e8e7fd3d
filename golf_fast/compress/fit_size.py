"""Fits the size of the artifact to a target in bytes, by the clip, the widths and zeros, measured on real artifacts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from golf_fast.compress.artifact.container import encode
from golf_fast.compress.integers.groups import WIDTHS
from golf_fast.compress.integers.quantize import quantize
from golf_fast.compress.integers.zeroing import ones_and_minus_ones, zero_smallest
from golf_fast.compress.stored import Raw, Stored
from golf_fast.config import CompressConfig
from golf_fast.distributed import Ranks

SLACK = 8192
"""Number of bytes that may stay empty below a target."""
FINEST, COARSEST = 1.0, 6.0
"""Range of the clip as base-2 logarithms of sigmas: at 2 sigmas a twentieth of the weights is clipped, at 64 an int6
weight takes about three values."""
COARSEST_TRELLIS = 9.0
"""Upper end of that range under a trellis, whose values cannot be zeroed one by one: at 512 sigmas an int8 weight takes
about three values."""
NARROW = 4.0
"""Clip in sigmas below which all widths are raised by a bit instead, which loses less."""
WIDEST = 8
SETTINGS = tuple(WIDTHS.values())
TRIALS = 24
ZEROING_TRIALS = 12


@dataclass(frozen=True)
class Fitted:
    """Quantized tensors whose artifact fits the target."""

    tensors: dict[str, Stored]
    config: CompressConfig
    """The given settings, with the clip and the widths that were found."""
    size: int
    """Size of the artifact, in bytes."""
    trials: int
    """Number of artifacts that were made to find the fit."""
    zeroed: int = 0
    """Number of values of ±1 that were set to 0."""


class Fitter:
    """Searches for settings under which code and artifact fill `config.target_bytes` with at most `SLACK` bytes left.

    It adjusts, in this order:
    1. The clip (not under absmax). Each doubling saves an eighth of a byte per quantized weight, so a few trials, each
       a whole artifact, find it. gptq starts from the clip that is needed without it.
    2. The widths: one more bit everywhere while the clip that was found is below `NARROW`.
    3. Zeros: if nothing fits, values of ±1 become 0, those of the smallest scales first.
    Under a trellis nothing is clipped and every value is part of a path, so only the first applies.

    Equal input gives an equal result.

    Args:
        state_dict, hessians, ranks, check, groups: as for `quantize`; check is also called before each trial.
        model_config: as for `write_artifact`.
        code_bytes: bytes of the target that the code takes.
        progress: called with a line for each trial.
    """

    def __init__(
        self,
        state_dict: Mapping[str, torch.Tensor],
        model_config: dict[str, Any],
        code_bytes: int = 0,
        hessians: Mapping[str, torch.Tensor] | None = None,
        ranks: Ranks | None = None,
        progress: Callable[[str], None] | None = None,
        check: Callable[[], object] = lambda: None,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dict = state_dict
        self.model_config = model_config
        self.code_bytes = code_bytes
        self.hessians = hessians
        self.ranks = ranks or Ranks.single()
        self.progress = progress or (lambda line: None)
        self.check = check
        self.groups = groups
        self.trials = 0

    def fit(self, config: CompressConfig) -> Fitted:
        """The largest artifact found that fits `config.target_bytes`.

        If even the coarsest settings with every ±1 zeroed are too large, that artifact is returned, with a `size` above
        the target. More than `SLACK` bytes are left only if even the finest settings leave them.

        Raises:
            InputError: `quantize` refuses a tensor.
        """
        if config.quantizer == "absmax":
            found = self._tried(config)
        elif config.uses_gptq:
            rough = self._fit_widths(config.uncalibrated())
            self.progress(f"from {rough.config.quantizer} to {config.quantizer}")
            calibrated = dataclasses.replace(rough.config, quantizer=config.quantizer, low_rank=config.low_rank)
            found = self._fit_clip(calibrated)
        else:
            found = self._fit_widths(config)
        if found.size > self._room(config) and not config.uses_trellis:
            found = self._zeroed(found)
        return dataclasses.replace(found, trials=self.trials)

    def _room(self, config: CompressConfig) -> int:
        return config.target_bytes - self.code_bytes

    def _fit_widths(self, config: CompressConfig) -> Fitted:
        found = self._fit_clip(config)
        if config.uses_trellis:
            return found
        while found.config.clip_sigma < NARROW and any(getattr(found.config, name) < WIDEST for name in SETTINGS):
            wider = {name: min(getattr(found.config, name) + 1, WIDEST) for name in SETTINGS}
            found = self._fit_clip(dataclasses.replace(found.config, **wider))
        return found

    def _fit_clip(self, config: CompressConfig) -> Fitted:
        """The largest artifact at the widths of `config` that fits, or the smallest one if none does."""
        room = self._room(config)
        best: Fitted | None = None
        over: float | None = None  # the coarsest clip known not to fit, and the finest known to; logarithms, base 2
        under: float | None = None
        coarsest = COARSEST_TRELLIS if config.uses_trellis else COARSEST
        clip = min(max(math.log2(config.clip_sigma), FINEST), coarsest)
        for trial in range(1, TRIALS + 1):
            # Rounded, so that the clip in the header has few digits and says exactly what was used.
            tried = self._tried(config.with_clip(round(2**clip, 4)))
            if tried.size <= room:
                under = clip
                best = tried if best is None or not best.size <= room or tried.size > best.size else best
                if room - tried.size <= SLACK or clip == FINEST:
                    break
            else:
                over = clip
                best = tried if best is None or best.size > max(room, tried.size) else best
                if clip == coarsest:
                    break
            # A straight line to half the slack; the middle of the bracket where the line leaves it or is slow.
            clip += (tried.size - room + SLACK / 2) * 8 / max(_quantized_weights(tried.tensors), 1)
            if over is not None and under is not None and (trial % 4 == 0 or not over < clip < under):
                clip = (over + under) / 2
            clip = min(max(clip, FINEST), coarsest)
        assert best is not None
        return best

    def _tried(self, config: CompressConfig) -> Fitted:
        self.check()
        tensors = quantize(self.state_dict, config, self.hessians, self.ranks, self.check, self.groups)
        return self._measured(tensors, config, zeroed=0)

    def _measured(self, tensors: dict[str, Stored], config: CompressConfig, zeroed: int) -> Fitted:
        self.trials += 1
        size = len(encode(tensors, self.model_config, **config.coding())) if self.ranks.main else 0
        size = int(self.ranks.broadcast_float(size))
        what = f"clip_sigma:{config.clip_sigma:g} " if config.quantizer != "absmax" else ""
        widths = "/".join(str(getattr(config, name)) for name in SETTINGS)
        self.progress(f"{what}bits:{widths} zeroed:{zeroed} artifact:{size} room:{self._room(config)}")
        return Fitted(tensors, config, size, self.trials, zeroed)

    def _zeroed(self, found: Fitted) -> Fitted:
        """`found` with the fewest additional zeros that make it fit."""
        most = ones_and_minus_ones(found.tensors)
        low, high = 0, most
        fits = self._with_zeros(found, most)
        if fits.size > self._room(found.config):
            return fits
        for _ in range(ZEROING_TRIALS):
            if self._room(found.config) - fits.size <= SLACK or high - low <= 1:
                break
            middle = (low + high) // 2
            tried = self._with_zeros(found, middle)
            if tried.size <= self._room(found.config):
                fits, high = tried, middle
            else:
                low = middle
        return fits

    def _with_zeros(self, found: Fitted, count: int) -> Fitted:
        return self._measured(zero_smallest(found.tensors, count), found.config, count)


def _quantized_weights(tensors: dict[str, Stored]) -> int:
    return sum(math.prod(stored.shape) for stored in tensors.values() if not isinstance(stored, Raw))
