"""Muon for the matrices, AdamW for the rest (seed.md section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from golf_fast import ops
from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.parameters import Role
from golf_fast.train.schedule import Rates


class Muon:
    """Momentum, orthogonalized (Jordan et al., 2024), for banks of matrices `[n, rows, cols]`.

    Every rank keeps all of the momentum, and orthogonalizes its share of each bank: banks are padded with zero
    matrices to a multiple of the world size, and the padding is dropped when the shares are gathered.

    Args:
        banks: parameters with 2 or 3 dimensions.
        iterations: of Newton-Schulz.
        weight_decay: decoupled, times the learning rate.
        dtype: what Newton-Schulz computes in.
        ranks: who takes part.
    """

    def __init__(
        self, banks: list[torch.nn.Parameter], *, iterations: int, weight_decay: float, dtype: torch.dtype, ranks: Ranks
    ) -> None:
        self.banks = banks
        self.iterations = iterations
        self.weight_decay = weight_decay
        self.dtype = dtype
        self.ranks = ranks
        self.momentum = [torch.zeros_like(bank) for bank in banks]

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        """Update the banks from their gradients, which must be equal on all ranks."""
        for bank, velocity in zip(self.banks, self.momentum, strict=True):
            assert bank.grad is not None, "a bank without a gradient"
            velocity.mul_(momentum).add_(bank.grad)
            direction = bank.grad.add(velocity, alpha=momentum)
            update = self._orthogonalize(direction.view(-1, *bank.shape[-2:])).view_as(bank)
            stretch = math.sqrt(max(1.0, bank.shape[-2] / bank.shape[-1]))
            bank.mul_(1 - lr * self.weight_decay).add_(update, alpha=-lr * stretch)

    def _orthogonalize(self, bank: torch.Tensor) -> torch.Tensor:
        world_size = self.ranks.world_size
        if world_size == 1:
            return ops.newton_schulz(bank, self.iterations, self.dtype)
        share = math.ceil(bank.shape[0] / world_size)
        padded = bank.new_zeros((share * world_size, *bank.shape[1:]), dtype=self.dtype)
        padded[: bank.shape[0]] = bank
        own = padded[self.ranks.rank * share : (self.ranks.rank + 1) * share]
        gathered = torch.empty_like(padded)
        self.ranks.all_gather_into(gathered, ops.newton_schulz(own, self.iterations, self.dtype).contiguous())
        return gathered[: bank.shape[0]]


class Optimizer:
    """All updates of one step: rates, clip, Muon, AdamW.

    Args:
        model: its gradients must be equal on all ranks when `step` is called.
        config: rates and decays.
        ranks: who takes part.
        orthogonalization_dtype: what Newton-Schulz computes in; default: the model's compute dtype.

    Raises:
        ValueError: a parameter of the model has no row in the table of parameters, or a row no parameter.
    """

    def __init__(
        self, model: GPT, config: TrainConfig, ranks: Ranks, orthogonalization_dtype: torch.dtype | None = None
    ) -> None:
        self.config = config
        by_role: dict[Role, list[torch.nn.Parameter]] = {"matrix": [], "table": [], "vector": [], "output": []}
        claimed = model.claimed("the optimizer")
        for row, parameter in claimed:
            by_role[row.role].append(parameter)
        self.parameters = [parameter for _, parameter in claimed]
        self.muon = Muon(
            by_role["matrix"],
            iterations=config.muon_iterations,
            weight_decay=config.muon_weight_decay,
            dtype=orthogonalization_dtype or model.compute_dtype,
            ranks=ranks,
        )
        table_lr = config.tied_embed_lr if model.config.tied_embeddings else config.embed_lr
        groups: list[dict[str, Any]] = [
            {"params": by_role["table"], "full_lr": table_lr},
            {"params": by_role["vector"], "full_lr": config.scalar_lr},
        ]
        if by_role["output"]:
            groups.append({"params": by_role["output"], "full_lr": config.head_lr, "weight_decay": 0.0})
        self.adamw = torch.optim.AdamW(
            groups,
            lr=0.0,
            betas=(config.beta1, config.beta2),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fused=True,  # one rounding a step: decay alone is less than half a unit of a bf16 table and would vanish
        )

    def step(self, rates: Rates) -> None:
        """Clip the gradients and update the parameters with these rates."""
        self._clip()
        for group in self.adamw.param_groups:
            group["lr"] = group["full_lr"] * rates.lr_factor
        self.muon.step(self.config.matrix_lr * rates.lr_factor, rates.momentum)
        self.adamw.step()

    @torch.no_grad()
    def _clip(self) -> None:
        """Scale all gradients by `min(1, limit / (norm + 1e-6))`, without waiting for the device."""
        if self.config.grad_clip <= 0:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = [torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        torch._foreach_mul_(gradients, (self.config.grad_clip / (norm + 1e-6)).clamp(max=1.0))

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def snapshot(self) -> Callable[[], None]:
        """Remember the state of all optimizers; the returned function puts it back."""
        momentum = [velocity.clone() for velocity in self.muon.momentum]

        def restore() -> None:
            for velocity, saved in zip(self.muon.momentum, momentum, strict=True):
                velocity.copy_(saved)
            # AdamW begins with an empty state, so that is what the start is.
            self.adamw.state.clear()

        assert not self.adamw.state, "a snapshot is taken before the first step"
        return restore
