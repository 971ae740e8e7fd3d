"""The kernels: one folder per op, each with a plain PyTorch reference that defines it.

`golf_fast.ops.backends` decides which implementation runs. This package imports nothing else of golf_fast but the
compiled extension.
"""

from golf_fast.ops.exclusive_gate import exclusive_gate
from golf_fast.ops.gated_smear import gated_smear
from golf_fast.ops.lane_mix import lane_mix
from golf_fast.ops.linear_residual import linear_residual
from golf_fast.ops.newton_schulz import newton_schulz
from golf_fast.ops.newton_schulz.flat_banks import FlatBanks
from golf_fast.ops.qk_norm_rope import qk_norm_rope
from golf_fast.ops.qkv_attention import qkv_attention
from golf_fast.ops.relu2_mlp import relu2_mlp
from golf_fast.ops.residual_mix import residual_mix
from golf_fast.ops.rms_norm import rms_norm
from golf_fast.ops.softcap_cross_entropy import softcap_cross_entropy, softcap_logits, softcap_losses
from golf_fast.ops.update import nesterov, update_factors
from golf_fast.ops.window_attention import window_attention

__all__ = [
    "FlatBanks",
    "exclusive_gate",
    "gated_smear",
    "lane_mix",
    "linear_residual",
    "nesterov",
    "newton_schulz",
    "qk_norm_rope",
    "qkv_attention",
    "relu2_mlp",
    "residual_mix",
    "rms_norm",
    "softcap_cross_entropy",
    "softcap_logits",
    "softcap_losses",
    "update_factors",
    "window_attention",
]
