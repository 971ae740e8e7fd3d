"""Whether the model computes a training step right on a device, before any time is taken."""

from __future__ import annotations

from collections.abc import Callable

import torch

from golf_fast.model import GPT

LENGTH = 256
COMPILED_LOSS = 0.003
"""Share by which the compiled model's mean loss may differ from that of the same model as it is."""


def wrong(model: GPT, loss: Callable[..., torch.Tensor], tokens: torch.Tensor, targets: torch.Tensor) -> str | None:
    """None if losses and gradients are right, else what is wrong.

    One row on the device against the same model on the CPU in float32, where the references run: each position's loss
    within `2 max|low - ref|`, each gradient within `2 ||low - ref|| + 0.001 ||ref||`, where `low` is bf16 on the CPU.
    A NaN is never within. A gradient of one number is left out: `low` may have it right by luck. Then the mean loss
    that will be timed, compiled, against the model as it is.
    """
    row, after = tokens[:1, :LENGTH], targets[:1, :LENGTH]
    ours = _results(model, model.compute_dtype, row.device, row, after)
    exact = _results(model, torch.float32, torch.device("cpu"), row, after)
    low = _results(model, torch.bfloat16, torch.device("cpu"), row, after)
    for name, right in exact.items():
        if right.numel() == 1:
            continue
        norm = float("inf") if name == "loss" else 2.0
        error, allowed, size = (
            float(torch.linalg.vector_norm(t, norm)) for t in (ours[name] - right, low[name] - right, right)
        )
        limit = 2 * allowed + (0.0 if name == "loss" else 1e-3 * size)
        if not error <= limit:
            return f"{name} is off by {error:.3g}, more than {limit:.3g}"
    timed = float(loss(tokens, targets).detach())  # with a graph, so that only what is timed is compiled
    with torch.no_grad():
        plain = float(model(tokens, targets))
    if not abs(timed - plain) <= COMPILED_LOSS * abs(plain):
        return f"the compiled loss is {timed:.4f}, the model's {plain:.4f}"
    return None


def _results(
    model: GPT, dtype: torch.dtype, device: torch.device, tokens: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Each loss and each parameter's gradient of their mean, from a copy of the model; float64 on the CPU."""
    copy = GPT(model.config, compute_dtype=dtype, embedding_dtype=model.tok_emb.dtype)
    copy.load_state_dict(model.state_dict())
    copy.to(device)
    losses = copy.token_losses(tokens.to(device), targets.to(device))
    torch.autograd.backward(losses.mean())
    found = {"loss": losses}
    for name, parameter in copy.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        found[f"the gradient of {name}"] = parameter.grad
    return {name: tensor.detach().double().cpu() for name, tensor in found.items()}
