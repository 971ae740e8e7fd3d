"""Weights that are cast once for several micro-steps give the gradients of weights that are cast in each, in bits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import top_models
from torch.utils._python_dispatch import TorchDispatchMode

from golf_fast.config import ModelConfig
from golf_fast.model import GPT
from golf_fast.model.cast_weights import CastWeights

SMALL = ModelConfig(vocab_size=61, dim=32, layers=4, heads=4, kv_heads=2, bigram_buckets=50, bigram_dim=8)
MICRO_STEPS = 3


MODELS = {"seed": SMALL, "top": dataclasses.replace(top_models.SMALL_TOP, vocab_size=61)}


def randomized(dtype: torch.dtype, config: ModelConfig = SMALL) -> GPT:
    model = GPT(config, compute_dtype=dtype, seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 20)
    return model


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(0, SMALL.vocab_size, (MICRO_STEPS, 2, 17), generator=generator)
    return [(rows[:, :-1], rows[:, 1:]) for rows in drawn]


def one_by_one(model: GPT) -> list[float]:
    losses = []
    for tokens, targets in batches():
        loss = model(tokens, targets)
        loss.backward()
        losses.append(float(loss.detach()))
    return losses


def cast_once(model: GPT, loss_of: Callable[..., torch.Tensor] | None = None) -> list[float]:
    losses, cast = [], CastWeights(model.views())
    for tokens, targets in batches():
        loss = (model if loss_of is None else loss_of)(tokens, targets, None, cast.weights)
        loss.backward()
        cast.backward()
        losses.append(float(loss.detach()))
    return losses


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_have_the_same_bits(dtype: torch.dtype, config: ModelConfig) -> None:
    plain, once = randomized(dtype, config), randomized(dtype, config)
    assert cast_once(once) == one_by_one(plain)
    expected, found = gradients(plain), gradients(once)
    assert found.keys() == expected.keys() == dict(plain.named_parameters()).keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
        assert gradient.any(), f"{name} has no gradient: nothing was compared"


class BankCasts(TorchDispatchMode):
    """Counts casts from float32 to bfloat16 of what has as many numbers as a bank."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.count = numbers, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype == torch.bfloat16 and out.numel() >= self.numbers:
            self.count += 1
        return out


def test_no_bank_is_cast_in_a_micro_step() -> None:
    model = randomized(torch.bfloat16)
    smallest = min(model.mlp_up.numel(), model.mlp_down.numel(), model.kv_bank.numel())
    with BankCasts(smallest) as in_each:
        one_by_one(model)
    with BankCasts(smallest) as once:
        cast_once(model)
    assert in_each.count == MICRO_STEPS * once.count > 0


def test_they_pass_through_the_compiler_and_make_no_graph_anew() -> None:
    graphs = []

    def kept(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model, plain = randomized(torch.float32), randomized(torch.float32)
    compiled = torch.compile(model, backend=kept, fullgraph=True, dynamic=False)
    assert cast_once(model, compiled) == one_by_one(plain)
    cast_once(model, compiled)  # another step has weights made anew
    assert len(graphs) == 1
