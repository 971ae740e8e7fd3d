"""The head of the model: output matrix, soft cap and cross-entropy in one op."""

from __future__ import annotations

import torch

from golf_fast.ops import backends, passes
from golf_fast.ops.checks import product_dtypes, refuse, require_dtype, require_like
from golf_fast.ops.launch import triton_obstacle
from golf_fast.ops.softcap_cross_entropy import operators, reference
from golf_fast.ops.softcap_cross_entropy.reference import softcap_logits

OP = "softcap_cross_entropy"

__all__ = ["softcap_cross_entropy", "softcap_logits", "softcap_losses"]

backends.register(
    OP,
    backends.Candidate("triton", "loss and gradient come from one pass over the logits", triton_obstacle, ("cpu",)),
    passes.candidate("loss and gradient come from one pass over the logits"),
    backends.REFERENCE,
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

    Saves x, weight and, with the Triton kernel or in C++, the derivative by the logits `[..., V]` in the dtype of x,
    which takes the place of the logits; without gradients nothing. Both give NaN for a target outside the vocabulary.

    Raises:
        ValueError: shapes, dtypes or devices that the op or the chosen backend does not take. The Triton kernel takes
            bfloat16 or float16 (in the interpreter also float32).
    """
    backend = passes.resolve(OP, x)
    _check(x, weight, targets, softcap, backend == "triton")
    if backend == "reference":
        return reference.softcap_cross_entropy(x, weight, targets, softcap)
    gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    rows = x.reshape(-1, x.shape[-1])
    losses: torch.Tensor = operators.forward(rows, weight, targets.reshape(-1).contiguous(), softcap, gradient)[0]
    return losses.view(targets.shape)


def softcap_losses(logits: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    """Cross-entropy of `softcap * tanh(logits / softcap)` against `targets`, for logits that are more than a product.

    Args:
        logits: `[..., V]`, any floating dtype.
        targets: `[...]`, int64, from 0 to V - 1.
        softcap: bound of the logits.

    Returns:
        `[...]` float32 (float64 for float64 logits), nats. In C++ it saves the logits.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
    """
    if logits.ndim < 1:
        refuse(OP, f"logits is {tuple(logits.shape)}", "[..., V]")
    require_like(OP, "targets", targets, logits, "logits", shape=logits.shape[:-1], dtype=torch.int64)
    if not softcap > 0:
        refuse(OP, f"softcap is {softcap}", "more than 0")
    if passes.resolve(OP, logits) != "native":
        return reference.softcap_losses(logits, targets, softcap)
    rows = logits.reshape(-1, logits.shape[-1]).contiguous()
    losses: torch.Tensor = operators.native_losses_forward(rows, targets.reshape(-1).contiguous(), softcap)
    return losses.view(targets.shape)


def _check(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float, for_triton: bool) -> None:
    if for_triton:
        require_dtype(OP, "x", x.dtype, product_dtypes(x.device), "reference")
    if weight.ndim != 2 or x.ndim < 1 or weight.shape[1] != x.shape[-1]:
        refuse(OP, f"weight is {tuple(weight.shape)}", f"[V, D], with the D of x, which is {tuple(x.shape)}")
    require_like(OP, "weight", weight, x)
    require_like(OP, "targets", targets, x, shape=x.shape[:-1], dtype=torch.int64)
    if not softcap > 0:
        refuse(OP, f"softcap is {softcap}", "more than 0")
