"""A whole training step and the ops at the sizes of a run, on a GPU; on a CPU the same checks at small sizes.

`benchmarks.step.gate` holds losses and every gradient, of the model as it is and compiled, against the same model in
float32 with plain operations: the largest errors, and their norms.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from benchmarks.ops import linear_residual, relu2_mlp, softcap_cross_entropy
from benchmarks.step import gate
from benchmarks.step.parts import fill
from golf_fast import ops, recipes
from golf_fast.config import ModelConfig
from golf_fast.model import GPT
from golf_fast.ops.relu2_mlp import triton as relu2_kernels

SMALL = ModelConfig(
    vocab_size=83, dim=128, layers=2, heads=2, kv_heads=1, mlp_mult=1.5, bigram_buckets=61, bigram_dim=16
)
SMALL_TOP = ModelConfig(
    vocab_size=83, dim=128, layers=3, heads=2, kv_heads=1, mlp_mult=2, bigram_buckets=0, backout=False, rope_dims=16,
    negative_slope=0.5, smear="before_norm", norm_scale=True, xsa_layers=3, attention_gate=True, skip_gates=True,
    loops=1, loop_start=0, loop_end=0, lanes_from=2, separate_documents=True,
)  # fmt: skip
"""The mechanisms of `top_1855`."""
TOKENS = 98304


def batch(config: ModelConfig, rows: int, length: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(config.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(2))
    return ids[:, :-1].contiguous().to(device), ids[:, 1:].contiguous().to(device)


def filled(config: ModelConfig, device: str, dtype: torch.dtype) -> GPT:
    torch._dynamo.reset()
    model = GPT(config, compute_dtype=dtype, embedding_dtype=dtype, seed=1)
    fill(model)
    return model.to(device)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["seed", "top_1855"])
def test_a_micro_step_at_full_size(recipe: str, use_triton) -> None:
    config = recipes.RECIPES[recipe]()
    model = filled(config.model, "cuda", torch.bfloat16)
    x, y = batch(config.model, TOKENS // config.train.seq_len, config.train.seq_len, "cuda")
    assert gate.wrong(model, torch.compile(model, dynamic=False), x, y) is None
    assert use_triton.total() > 0


@pytest.mark.gpu
def test_documents_at_full_size(use_triton) -> None:
    """One row of 98,304 tokens, cut into documents, not compiled: without what the compiler takes its time for."""
    config = recipes.top_1855()
    model = filled(config.model, "cuda", torch.bfloat16)
    rows = batch(config.model, TOKENS // config.train.seq_len, config.train.seq_len, "cuda")
    assert len(gate.as_trained(config.model, *rows)) == 3
    assert gate.wrong(model, model, *rows) is None
    assert use_triton.total() > 0


@pytest.mark.interpreter
def test_documents_of_a_small_micro_step(use_triton, monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled(SMALL_TOP, "cpu", torch.float32)
    rows = batch(SMALL_TOP, 3, 20, "cpu")

    def mean(*micro: torch.Tensor) -> torch.Tensor:  # another than the model, as its compiled form is: all is checked
        return model(*micro)

    assert gate.wrong(model, mean, *rows) is None
    assert use_triton.total() > 0
    # Without the cuts of the documents the positions after them see too much.
    honest = GPT.token_losses
    monkeypatch.setattr(GPT, "token_losses", lambda self, x, y, documents=None: honest(self, x, y))
    assert "is off by" in str(gate.wrong(model, mean, *rows))


@pytest.fixture
def small(use_triton) -> GPT:
    return filled(SMALL, "cpu", torch.float32)


def small_wrong(model: GPT) -> str | None:
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    return gate.wrong(model, compiled, *batch(SMALL, 1, 70, "cpu"))


@pytest.mark.interpreter
def test_a_small_micro_step(small: GPT, use_triton) -> None:
    assert small_wrong(small) is None
    assert use_triton.total() > 0


@pytest.mark.interpreter
@pytest.mark.parametrize("kernel", ["up_launch", "dpre_launch"])
def test_a_tile_that_a_kernel_leaves_out_is_seen(kernel: str, small: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = getattr(relu2_kernels, kernel)

    def leaving_out(*arguments):
        launch, out = honest(*arguments), arguments[3 if kernel == "up_launch" else 4]

        def run() -> None:
            launch()
            out[:64, 64:128] = 0

        return run

    monkeypatch.setattr(relu2_kernels, kernel, leaving_out)
    found = small_wrong(small)
    assert found is not None
    assert "is off by" in found


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("module", "size", "function"),
    [
        (relu2_mlp, "GATE_TOKENS", ops.relu2_mlp),
        (linear_residual, "GATE_TOKENS", ops.linear_residual),
        (softcap_cross_entropy, "GATE", ops.softcap_cross_entropy),
    ],
    ids=["relu2_mlp", "linear_residual", "softcap_cross_entropy"],
)
def test_an_op_at_full_size(
    module: ModuleType, size: str, function, monkeypatch: pytest.MonkeyPatch, use_triton
) -> None:
    """More tiles for each program than the gates before a benchmark have."""
    monkeypatch.setattr(module, size, TOKENS)
    assert module.gate(function) is None
    assert use_triton.total() > 0
