"""AdamW in one kernel a group (Loshchilov and Hutter, 2019), with one count of steps for all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Group:
    """Parameters of one dtype that are trained in one way.

    Attributes:
        full_lr: learning rate where its factor is 1.
        weight_decay: decoupled, times the learning rate.
    """

    parameters: Sequence[torch.nn.Parameter]
    full_lr: float
    weight_decay: float


class AdamW:
    """PyTorch's fused AdamW, without a count of steps for each parameter.

    It rounds once a step: decay by itself is less than half a unit of a bf16 table and would vanish.

    Args:
        groups: what is trained; at least one parameter, all on one device.
        betas, eps: of the moments.
    """

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float], eps: float) -> None:
        self.groups = [group for group in groups if group.parameters]
        self.betas, self.eps = betas, eps
        parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.count = torch.zeros((), device=parameters[0].device)
        """Steps so far, float32 scalar, on the device."""
        # From the beginning, so that a state is complete at any step.
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
            lr_factor: of the full learning rates.
            ok: bool scalar on the device; where it is false nothing changes.
            failed: 1 where `ok` is false, else 0; float32 scalar.
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
