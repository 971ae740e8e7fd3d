"""What happens to queries and keys between projection and attention: norm, rotation, gain."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.qk_norm_rope import reference

backends.register("qk_norm_rope", backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere))


def qk_norm_rope(
    q: torch.Tensor, k: torch.Tensor, gain: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS-normalise each head, rotate it by its position (Su et al., RoFormer, arXiv 2104.09864), scale the queries.

    Args:
        q: `[B, T, heads, head_dim]`, any floating dtype.
        k: `[B, T, kv_heads, head_dim]`, the dtype of `q`.
        gain: `[heads]`, multiplies the queries; the dtype of `q`.
        cos: `[T, head_dim / 2]`, cosine of position times frequency; the dtype of `q`.
        sin: likewise.

    Returns:
        The new q and k, in their shapes and dtypes. Pairs are half-split: dimension i turns with i + head_dim / 2.
    """
    return reference.qk_norm_rope(q, k, gain, cos, sin)
