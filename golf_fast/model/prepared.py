"""Weights of a pass that are cast once for several passes forward and backward."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from golf_fast.model.block import Block, Pass
from golf_fast.model.streams import Lanes


class Prepared:
    """The weights of a pass as leaves of their own, and the way of their gradients to the parameters.

    Between two updates each micro-step computes with `weights`, and after its backward `backward` adds their gradients
    to the parameters', in the parameters' dtype and to the same bits as if each micro-step had cast them.

    Args:
        made: by `GPT.views`, with gradients enabled.
    """

    def __init__(self, made: Pass) -> None:
        self._made: dict[int, torch.Tensor] = {}
        self._leaves: dict[int, torch.Tensor] = {}
        blocks = [self._of_block(block) for block in made.blocks]
        self.weights = Pass(blocks, None if made.backout is None else self._leaf(made.backout))

    def backward(self) -> None:
        """Add the gradients of a micro-step to those of the parameters."""
        reached = {key: leaf.grad for key, leaf in self._leaves.items() if leaf.grad is not None}
        made = [self._made[key] for key in reached]
        torch.autograd.backward(made, list(reached.values()), retain_graph=True)
        for leaf in self._leaves.values():
            leaf.grad = None

    def _of_block(self, block: Block) -> Block:
        values: dict[str, Any] = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
        return dataclasses.replace(block, **{name: self._of(value) for name, value in values.items()})

    def _of(self, value: Any) -> Any:
        """`value` with a leaf in the place of each tensor, those in tuples among them."""
        if isinstance(value, torch.Tensor):
            return self._leaf(value)
        if isinstance(value, Lanes):
            return Lanes(*(self._of(part) for part in value))
        return tuple(self._of(part) for part in value) if isinstance(value, tuple) else value

    def _leaf(self, tensor: torch.Tensor) -> torch.Tensor:
        """Its own leaf; what several blocks share stays shared."""
        if id(tensor) not in self._leaves:
            self._made[id(tensor)] = tensor
            self._leaves[id(tensor)] = tensor.detach().requires_grad_()
        return self._leaves[id(tensor)]
