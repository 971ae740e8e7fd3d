"""A training step of a two-block model with every Triton op against the plain ops: loss, gradients, launch counts."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch
from helpers.numerics import error

from golf_fast.config import ModelConfig, TrainConfig
from golf_fast.distributed import Ranks
from golf_fast.model import GPT
from golf_fast.ops import backends, nesterov, newton_schulz, registry, update_factors
from golf_fast.ops.launch import launches
from golf_fast.train import Optimizer, Rates

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# The backout of the last block would only scale what the norm of the head undoes, so that of the first.
CONFIG = ModelConfig(
    vocab_size=83, dim=128, layers=2, heads=2, kv_heads=1, mlp_mult=1.5, bigram_buckets=61, bigram_dim=16,
    backout_layer=0,
)  # fmt: skip
TOP = dataclasses.replace(
    CONFIG, layers=3, mlp_mult=2, bigram_buckets=0, backout=False, negative_slope=0.5, smear="before_norm",
    rope_dims=16, norm_scale=True, xsa_layers=3, attention_gate=True, skip_gates=True, loops=1, loop_start=0,
    loop_end=0, lanes_from=2,
)  # fmt: skip
KERNELS = {build.launch.op for cases in registry.load().values() for build in cases.builds()}
# All dimensions of the seed turn, so the kernels of attention take its gradients back through norm and rotation.
RUN = {"seed": KERNELS - {"qk_norm_rope.backward", "exclusive_gate", "exclusive_gate.backward"}, "top": KERNELS}


def step(
    config: ModelConfig, choice: str, monkeypatch: pytest.MonkeyPatch, compiled: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of two rows of 70 tokens, and Muon's update of the MLP bank."""
    monkeypatch.setenv(backends.VARIABLE, choice)
    backends.forget()
    launches.clear()
    model = GPT(config, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # zero matrices would leave the blocks untested
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    tokens = torch.randint(config.vocab_size, (2, 71), generator=generator)
    forward = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
    loss = forward(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    sizes = torch.stack([*(gradient.norm() for gradient in found.values()), loss.detach()])
    factors = update_factors(sizes, torch.zeros(()), 0.3, squares=False)
    gradient, momentum = found["mlp_up"], torch.zeros_like(found["mlp_up"])
    found["direction of mlp_up"] = nesterov(gradient, momentum, 0.95, factors.clip, factors.failed)
    found["update of mlp_up"] = newton_schulz(found["direction of mlp_up"], 5, torch.float32)
    return loss.detach(), found


@pytest.mark.interpreter
@pytest.mark.parametrize("name", ["seed", "top"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_step_matches_the_reference(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    config = {"seed": CONFIG, "top": TOP}[name]
    loss, found = step(config, "triton", monkeypatch, compiled)
    counted = dict(launches)
    expected_loss, expected = step(config, "reference", monkeypatch)
    backends.forget()
    assert not launches
    assert set(counted) == RUN[name]
    assert error(loss, expected_loss) < 1e-5
    for parameter, gradient in expected.items():
        largest = float(gradient.abs().max())
        assert largest > 0, parameter
        assert error(found[parameter], gradient) < 2e-4 * largest, parameter


def moved(choice: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights after two updates, and after one more whose gradients are no numbers."""
    monkeypatch.setenv(backends.VARIABLE, choice)
    backends.forget()
    launches.clear()
    model = GPT(CONFIG, seed=1)
    optimizer = Optimizer(model, TrainConfig(grad_clip=0.3), Ranks.single(), torch.float32)
    optimizer.reads_at_once = False
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) / (0 if number == 2 else 1)
        optimizer.step(Rates(1.0, 0.95), torch.ones(()))
        assert bool(optimizer.ok) == (number < 2)
        made.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    return made


@pytest.mark.interpreter
def test_updates_match_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    found = moved("triton", monkeypatch)
    assert (launches["update.factors"], launches["update.nesterov"]) == (3, 3)
    expected = moved("reference", monkeypatch)
    backends.forget()
    for ours, theirs in zip(found, expected, strict=True):
        for name, weight in theirs.items():
            assert error(ours[name], weight) < 1e-4 * float(weight.abs().max()) + 1e-6, name
    assert all(torch.equal(found[1][name], weight) for name, weight in found[2].items())
