"""The head of the model: output matrix, soft cap and cross-entropy in one op."""

import torch

from golf_fast.ops import backends
from golf_fast.ops.launch import require, triton_obstacle
from golf_fast.ops.softcap_cross_entropy import reference
from golf_fast.ops.softcap_cross_entropy.reference import softcap_logits

__all__ = ["softcap_cross_entropy", "softcap_logits"]

backends.register(
    "softcap_cross_entropy",
    backends.Candidate("triton", "loss and gradient come from one pass over the logits", triton_obstacle, ("cpu",)),
    backends.Candidate("reference", "plain PyTorch runs anywhere", backends.anywhere),
)


def softcap_cross_entropy(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """Cross-entropy of `softcap * tanh(x @ weight.T / softcap)` against `targets`, one value for each row.

    Scoring passes only the rows that are scored: nothing is computed for others.

    Args:
        x: `[..., D]`, any floating dtype.
        weight: `[V, D]`, the dtype of `x`.
        targets: `[...]`, int64, from 0 to V - 1.
        softcap: bound of the logits.

    Returns:
        `[...]` float32 (float64 for float64 inputs), nats.

    Saves x, weight and, with the Triton kernel, the derivative by the logits `[..., V]` in the dtype of x, which takes
    the place of the logits; without gradients nothing. The kernel gives NaN for a target outside the vocabulary.

    Raises:
        ValueError: shapes, dtypes or devices that the Triton kernel does not take. It takes bfloat16 or float16 (in the
            interpreter also float32).
    """
    if backends.resolve("softcap_cross_entropy", x.device).name == "reference":
        return reference.softcap_cross_entropy(x, weight, targets, softcap)
    from golf_fast.ops.softcap_cross_entropy import triton

    _check(x, weight, targets, softcap)
    gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    rows = x.reshape(-1, x.shape[-1])
    losses: torch.Tensor = triton.forward(rows, weight, targets.reshape(-1).contiguous(), softcap, gradient)[0]
    return losses.view(targets.shape)


def _check(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> None:
    op = "softcap_cross_entropy"
    allowed = (torch.bfloat16, torch.float16) if x.is_cuda else (torch.bfloat16, torch.float16, torch.float32)
    require(x.dtype in allowed, op, f"x is {x.dtype}", " or ".join(map(str, allowed)))
    require(weight.dtype == x.dtype, op, f"weight is {weight.dtype}", f"the dtype of x, {x.dtype}")
    require(targets.dtype == torch.int64, op, f"targets is {targets.dtype}", "int64")
    require(x.shape[-1:] == weight.shape[1:], op, f"x is {tuple(x.shape)}", f"[..., {weight.shape[1]}]")
    require(targets.shape == x.shape[:-1], op, f"targets is {tuple(targets.shape)}", f"{tuple(x.shape[:-1])}")
    require(softcap > 0, op, f"softcap is {softcap}", "more than 0")
    for name, tensor in (("weight", weight), ("targets", targets)):
        require(tensor.device == x.device, op, f"{name} is on {tensor.device}", f"where x is, {x.device}")
