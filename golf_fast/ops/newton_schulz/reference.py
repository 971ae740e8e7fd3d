"""Newton-Schulz orthogonalization of a bank of matrices in plain PyTorch: the definition of the op."""

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)


def newton_schulz(bank: torch.Tensor, iterations: int, dtype: torch.dtype) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.newton_schulz`."""
    a, b, c = QUINTIC
    x = bank.to(dtype)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = bank.shape[-2] > bank.shape[-1]
    if tall:
        x = x.mT
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
