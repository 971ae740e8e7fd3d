"""Weights that are cast to the compute dtype once per optimizer step and shared by all of its micro-steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from golf_fast.model.block import Block, Pass
from golf_fast.model.streams import Lanes


class CastWeights:
    """Cast weights as autograd leaves, and the accumulation of their gradients into the parameters.

    Between two updates each micro-step computes with `weights`; after its backward, `backward` adds the gradients of
    the leaves to those of the parameters, in the parameters' dtype and bit-identical to casting in each micro-step.

    Args:
        made: the weights that `GPT.views` made with gradients enabled.
    """

    def __init__(self, made: Pass) -> None:
        self._made: dict[int, torch.Tensor] = {}
        self._leaves: dict[int, torch.Tensor] = {}
        blocks = [self._of_block(block) for block in made.blocks]
        self.weights = Pass(blocks, None if made.backout is None else self._leaf(made.backout))

    def backward(self) -> None:
        """Add the gradients of the last micro-step to those of the parameters."""
        reached = {key: leaf.grad for key, leaf in self._leaves.items() if leaf.grad is not None}
        made = [self._made[key] for key in reached]
        torch.autograd.backward(made, list(reached.values()), retain_graph=True)
        for leaf in self._leaves.values():
            leaf.grad = None

    def _of_block(self, block: Block) -> Block:
        values: dict[str, Any] = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
        return dataclasses.replace(block, **{name: self._of(value) for name, value in values.items()})

    def _of(self, value: Any) -> Any:
        """`value` with each tensor, also those inside tuples, replaced by its leaf."""
        if isinstance(value, torch.Tensor):
            return self._leaf(value)
        if isinstance(value, Lanes):
            return Lanes(*(self._of(part) for part in value))
        return tuple(self._of(part) for part in value) if isinstance(value, tuple) else value

    def _leaf(self, tensor: torch.Tensor) -> torch.Tensor:
        """The leaf of a tensor; blocks that share a tensor share its leaf."""
        if id(tensor) not in self._leaves:
            self._made[id(tensor)] = tensor
            self._leaves[id(tensor)] = tensor.detach().requires_grad_()
        return self._leaves[id(tensor)]
