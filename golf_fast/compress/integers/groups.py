"""Quantization groups: the group of a tensor decides its form and the width of its integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from golf_fast.config import CompressConfig
from golf_fast.errors import InputError

WIDTHS = {
    "mlp": "mlp_bits",
    "attention": "attention_bits",
    "bigram": "bigram_bits",
    "embedding": "embedding_bits",
}
"""The setting for the width of the integers, by group, of the groups that are always quantized."""
GATE_BITS = 8
"""Width in bits of the integers of attention gates, if they are quantized."""
GROUPS = (*WIDTHS, "gate", "control")
"""All groups. Tensors of the group "control" (vectors and scalars) are never quantized, those of the group "gate" only
if the configuration says so."""
CONTROL_NAMES = (
    "attn_scale",
    "mlp_scale",
    "resid_mix",
    "q_gain",
    "skip_weights",
    "skip_gates",
    "parallel_post_lambdas",
    "parallel_resid_lambdas",
    "smear.gate",
    "smear_gate",
    "smear_lambda",
    "bigram.scale",
    "backout_lambda",
)
"""Parts of the published names of control tensors."""


def groups_of(names: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The group of each name, one of `GROUPS`.

    Args:
        names: names of tensors.
        given: the group of each name; None: the groups of published names according to docs/seed.md, section 5, where
            a name without another group counts as an embedding.

    Raises:
        InputError: `given` lacks a name, has an unknown group, or has a name that is not in `names`.
    """
    if given is None:
        return {name: _published_group(name) for name in names}
    found = {name: given.get(name) for name in names}
    for name, group in found.items():
        if group not in GROUPS:
            raise InputError(
                f"{name}: its quantization group is {'missing' if group is None else repr(group)}; "
                f"it must be one of {', '.join(GROUPS)}"
            )
    for name in given:
        if name not in found:
            raise InputError(f"{name}: has a quantization group ({given[name]}) and is no tensor of the model")
    return dict(given)


def _published_group(name: str) -> str:
    if "attn_gate_w" in name:
        return "gate"
    if any(control in name for control in CONTROL_NAMES):
        return "control"
    if ".mlp." in name:
        return "mlp"
    if ".attn." in name:
        return "attention"
    return "bigram" if "bigram" in name else "embedding"


def bits_of(group: str, config: CompressConfig) -> int:
    """Width in bits of the integers of a quantized group."""
    bits: int = GATE_BITS if group == "gate" else getattr(config, WIDTHS[group])
    return bits
