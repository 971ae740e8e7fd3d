"""AdamW (Loshchilov and Hutter, 2019) in one fused kernel per group, with one step count for all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Group:
    """Parameters of one dtype that share their settings.

    Attributes:
        parameters: the parameters of the group.
        full_lr: learning rate when its factor is 1.
        weight_decay: decoupled weight decay, multiplied by the learning rate.
    """

    parameters: Sequence[torch.nn.Parameter]
    full_lr: float
    weight_decay: float


class AdamW:
    """PyTorch's fused AdamW, with one step count for all parameters instead of one for each.

    The fused kernel rounds once per step: applied separately, the decay of a bf16 table would be less than half a unit
    in the last place and would vanish.

    Args:
        groups: the parameters to train; at least one, all on one device.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
    """

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float], eps: float) -> None:
        self.groups = [group for group in groups if group.parameters]
        self.betas, self.eps = betas, eps
        parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.count = torch.zeros((), device=parameters[0].device)
        """Number of steps so far, float32 scalar on the device."""
        # The moments exist from the beginning, so that a saved state is complete at any step.
        self.state = {
            parameter: {
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for parameter in parameters
        }

    @torch.no_grad()
    def step(self, lr_factor: float, ok: torch.Tensor, failed: torch.Tensor) -> None:
        """Update the parameters by their gradients.

        Args:
            lr_factor: factor on the full learning rates.
            ok: bool scalar on the device; if it is false nothing changes.
            failed: float32 scalar on the device, 1 where `ok` is false, else 0.
        """
        self.count.add_(ok)
        for group in self.groups:
            states = [self.state[parameter] for parameter in group.parameters]
            torch._fused_adamw_(
                [*group.parameters],
                [parameter.grad for parameter in group.parameters if parameter.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [self.count] * len(states),
                lr=group.full_lr * lr_factor,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=group.weight_decay,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
                found_inf=failed,
            )
