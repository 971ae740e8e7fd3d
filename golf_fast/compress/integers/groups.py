"""Which tensors are treated alike: the group of each decides its form and its width."""

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
"""The groups that are quantized, each with the setting for the width of its integers."""
GATE_BITS = 8
"""Width of the integers of the gates of attention's heads, where they are quantized."""
GROUPS = (*WIDTHS, "gate", "control")
"""All groups. Tensors of the group control steer the others and are never quantized, those of the group gate only where
the configuration says so."""
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
        names: The names of tensors.
        given: The group of each of them; None: what docs/seed.md, section 5, says of published names, where whatever
            has no other group counts as an embedding.

    Raises:
        InputError: `given` has no group for a name, one that is unknown, or a group for a name that is not there.
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
    """Width of the integers of a group that is quantized."""
    bits: int = GATE_BITS if group == "gate" else getattr(config, WIDTHS[group])
    return bits
