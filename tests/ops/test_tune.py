"""The launch parameters that `benchmarks tune` tries, interpreted at small sizes: right, or left out."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.ops import peers
from benchmarks.tune import command as tune
from benchmarks.tune import kernels as tune_kernels
from golf_fast.ops.launch import Launch
from golf_fast.ops.linear_residual.triton import choose_tiles as choose_linear_tiles
from golf_fast.ops.qk_norm_rope.triton import choose_block
from golf_fast.ops.relu2_mlp.triton import choose_tiles as choose_mlp_tiles
from golf_fast.ops.residual_mix.triton import choose_block as choose_rows
from golf_fast.ops.window_attention.launches import choose_tiles

# no power of two, so that tiles have borders, and more than one tile of the largest
SMALL = tune.Shapes(rows=1, length=140, dim=64, hidden=320, heads=2, kv_heads=1, head_dim=64, window=90)
NAMES = [kernel.name for kernel in tune.kernels(tune.Shapes(), torch.device("meta"))]


@pytest.fixture
def small_gates(monkeypatch: pytest.MonkeyPatch, use_triton) -> Counter[str]:
    """The gates of the ops at sizes of the interpreter; the launches of kernels."""
    small = {
        tune_kernels.relu2_mlp: {"WIDTH": 64, "HIDDEN": 128, "GATE_TOKENS": 17},
        tune_kernels.qkv_attention: {"LENGTH": 24, "WIDTH": 48, "HEADS": 4, "KV_HEADS": 2, "HEAD_DIM": 32},
        tune_kernels.linear_residual: {"WIDTH": 64, "GATE_TOKENS": 17},
        tune_kernels.residual_mix: {"LENGTH": 24, "WIDTH": 48},
        tune_kernels.qk_norm_rope: {"LENGTH": 24, "HEADS": 4, "KV_HEADS": 2, "HEAD_DIM": 32},
    }
    for module, values in small.items():
        monkeypatch.setattr(module, "DEVICE", "cpu")
        for key, value in values.items():
            monkeypatch.setattr(module, key, value)
    # bfloat16 is what a GPU gets, and the interpreter multiplies it wrongly
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.half())
    return use_triton


def small_kernel(name: str) -> tune_kernels.Kernel:
    # Rows are no tiles: 29 are no multiple of a block, and as residual-mix is now some program takes two blocks.
    shapes = dataclasses.replace(SMALL, length=29) if name.startswith(("residual", "qk")) else SMALL
    return next(kernel for kernel in tune.kernels(shapes, torch.device("cpu")) if kernel.name == name)


@pytest.mark.interpreter
@pytest.mark.parametrize("name", NAMES)
def test_every_choice_computes_the_same_and_is_right(name: str, small_gates: Counter[str]) -> None:
    case = tune.as_case(small_kernel(name))
    assert len(case.peers) >= 5
    assert case.gate() is None
    assert {label: peers.obstacle(case, label) for label in case.peers} == dict.fromkeys(case.peers)


@pytest.mark.interpreter
@pytest.mark.parametrize("name", NAMES)
def test_the_gate_of_an_op_runs_the_choice(name: str, small_gates: Counter[str]) -> None:
    """With a choice that a launch cannot be made for, the op cannot run; after it, it can again."""
    kernel = small_kernel(name)
    with kernel.using(None), pytest.raises(Exception, match="NoneType"):
        kernel.gate()
    assert kernel.gate() is None


@pytest.mark.interpreter
def test_a_wrong_or_unwritten_output_is_left_out(small_gates: Counter[str]) -> None:
    kernel = next(iter(tune.kernels(SMALL, torch.device("cpu"))))
    other = kernel.choices[1]

    def wrong(choice: object) -> Launch:
        launch = kernel.launch(choice)
        return launch if choice != other else dataclasses.replace(launch, arguments={**launch.arguments, "rstd": None})

    def unwritten(choice: object) -> Launch:
        launch = kernel.launch(choice)
        return launch if choice != other else dataclasses.replace(launch, arguments={**launch.arguments, "tokens": 40})

    for fault in (wrong, unwritten):
        case = tune.as_case(dataclasses.replace(kernel, launch=fault))
        assert "is off by" in (peers.obstacle(case, tune.describe(other)) or "")
        assert peers.obstacle(case, tune.describe(kernel.choices[2])) is None


def test_the_first_choice_is_what_the_seed_runs() -> None:
    first = {kernel.name: kernel.choices[0] for kernel in tune.kernels(tune.Shapes(), torch.device("meta"))}
    attention = choose_tiles(64, 2, 90)
    assert first == {
        "mlp-up": choose_mlp_tiles("up", 90, 98304, 1536, 132),
        "mlp-dpre": choose_mlp_tiles("dpre", 90, 98304, 1536, 132),
        "attention": attention.forward,
        "attention-dq": attention.d_query,
        "attention-dkv": attention.d_key_value,
        "qk": choose_block(8, 64),
        "qk-backward": choose_block(8, 64),
        "linear-residual": choose_linear_tiles(90, 98304, 512, 132),
        "residual-mix": choose_rows(512, backward=False),
        "residual-mix-backward": choose_rows(512, backward=True),
    }


def test_the_gates_run_the_tiles_that_are_timed() -> None:
    """Tiles shrink where there are few tokens, and a gate has fewer than the benchmark."""
    linear, mlp = tune_kernels.linear_residual, tune_kernels.relu2_mlp
    gated, timed = (
        choose_linear_tiles(90, tokens, linear.WIDTH, 132) for tokens in (linear.GATE_TOKENS, linear.TOKENS)
    )
    assert gated == timed
    for kernel in ("up", "dpre"):
        gated, timed = (
            choose_mlp_tiles(kernel, 90, tokens, mlp.HIDDEN, 132)
            for tokens in (mlp.GATE_TOKENS, mlp.TOKENS["training"])
        )
        assert gated == timed
