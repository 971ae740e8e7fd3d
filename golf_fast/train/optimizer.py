"""Muon for the matrices, AdamW for the rest (seed.md section 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from golf_fast import ops
from golf_fast.config import TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.model.parameters import Role
from golf_fast.train.adamw import AdamW, Group
from golf_fast.train.gradients import Gradients
from golf_fast.train.muon import Muon
from golf_fast.train.schedule import Rates
from golf_fast.train.state import Piece, Reader, fill

_ADAMW: tuple[Role, ...] = ("table", "vector", "output")
"""The roles of the parameters that AdamW trains."""


class Optimizer:
    """The complete update of a training step: sum of gradients over the ranks, clipping, Muon and AdamW.

    Args:
        model: the model, equal on all ranks and on `ranks.device`.
        config: learning rates and decays.
        ranks: the ranks of the run.
        orthogonalization_dtype: dtype of Newton-Schulz; default: the model's compute dtype.

    Raises:
        ValueError: a parameter of the model has no row in the table of parameters, or a row has no parameter.
    """

    def __init__(
        self, model: GPT, config: TrainConfig, ranks: Ranks, orthogonalization_dtype: torch.dtype | None = None
    ) -> None:
        self.config = config
        by_role: dict[Role, dict[str, torch.nn.Parameter]] = {"matrix": {}, "table": {}, "vector": {}, "output": {}}
        claimed = model.claimed("the optimizer")
        for row, parameter in claimed:
            by_role[row.role][row.name] = parameter
        self.parameters = {row.name: parameter for row, parameter in claimed}
        self._of_adamw = {name: parameter for role in _ADAMW for name, parameter in by_role[role].items()}
        self.muon = Muon(
            by_role["matrix"],
            iterations=config.muon_iterations,
            coefficients=config.muon_coefficients,
            row_normalize=config.muon_row_normalize,
            weight_decay=config.muon_weight_decay,
            dtype=orthogonalization_dtype or model.compute_dtype,
            ranks=ranks,
        )
        of_tables = config.weight_decay if config.table_weight_decay is None else config.table_weight_decay
        table_lr = config.tied_embed_lr if model.config.tied_embeddings else config.embed_lr
        groups = [
            Group(list(by_role["table"].values()), table_lr, of_tables),
            Group(list(by_role["vector"].values()), config.scalar_lr, config.weight_decay),
            Group(list(by_role["output"].values()), config.head_lr, 0.0),
        ]
        self.adamw = AdamW(groups, (config.beta1, config.beta2), config.adam_eps)

        device = ranks.device
        shares = {bank.name: bank.share for bank in self.muon.banks if bank.sharded}
        self._gradients = Gradients(self.parameters, [bank.name for bank in self.muon.banks], shares, ranks)
        self.ok = torch.ones((), dtype=torch.bool, device=device)
        """Whether all losses and gradients so far were finite: bool scalar on the device. Once it is false, updates
        change nothing."""
        self.found = torch.zeros(len(self.parameters) + 1, device=device)
        """`[n + 1]` float32 on the device, equal on all ranks: for each parameter, in the order of `parameters`, the L2
        norm of its gradient or the square of that; then the mean loss over all ranks."""
        self.reads_at_once = device.type == "cpu"
        """Whether reading a number from the device needs no synchronization."""
        self.failed = torch.zeros((), device=device)
        """0 where `ok` is true, else 1: float32 scalar on the device."""
        self._doubt = torch.zeros((), device=device)  # becomes NaN at the first loss or gradient that is not finite

    @torch.no_grad()
    def step(self, rates: Rates, loss: torch.Tensor | None = None) -> None:
        """Sum the gradients over the ranks, clip them and update the parameters; nothing waits for the device.

        Args:
            rates: the rates of this step.
            loss: scalar, this rank's part of the mean loss, whose gradients the parameters hold.
        """
        gradients = self._gradients.sum()
        self.found = self._gradients.found(gradients, torch.zeros_like(self.found[-1]) if loss is None else loss)
        self._doubt, self.ok, self.failed, factor = ops.update_factors(
            self.found, self._doubt, self.config.grad_clip, squares=self._gradients.finds_squares
        )
        if self.reads_at_once and not self.ok:
            return
        clip = factor if self.config.grad_clip > 0 else None
        if clip is not None:
            gradients.scale_others(clip)
        failed = None if self.reads_at_once else self.failed
        lr = self.config.matrix_lr * rates.lr_factor
        finish = self.muon.start(gradients.banks, lr, rates.momentum, clip, failed)
        self.adamw.step(rates.lr_factor, self.ok, self.failed)
        finish()

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Piece]:
        """The state that the next step depends on besides weights and gradients, by name.

        These are `muon.momentum.<parameter>`, `adamw.exp_avg.<parameter>` and `adamw.exp_avg_sq.<parameter>` in the
        dtype of the parameter, and `adamw.step` `[1]` float32, the number of updates so far.
        """
        of_muon = {f"muon.momentum.{name}": piece for name, piece in self.muon.state().items()}
        moments = {
            f"adamw.{moment}.{name}": Piece.whole(self.adamw.state[parameter][moment])
            for moment in ("exp_avg", "exp_avg_sq")
            for name, parameter in self._of_adamw.items()
        }
        return {**of_muon, **moments, "adamw.step": Piece.whole(self.adamw.count)}

    @torch.no_grad()
    def load(self, read: Reader) -> None:
        """Restore a `state` that any number of ranks stored.

        Raises:
            InputError: a tensor is missing, or of another shape or dtype.
        """
        fill(self.state(), read)

    @torch.no_grad()
    def snapshot(self) -> Callable[[], None]:
        """Copy the state of all optimizers; the returned function restores it."""
        kept = {name: piece.tensor.clone() for name, piece in self.state().items()}

        def restore() -> None:
            self.load(lambda name, first, count: kept[name])
            self._doubt.zero_()
            self.ok.fill_(True)

        return restore
