"""Which implementations a model runs with is decided before it runs, in every program alike."""

from dataclasses import replace

import pytest
import torch

from golf_fast import compress
from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model.backends import require_compute_dtype, require_kernel_shapes, resolve_backends
from golf_fast.ops import backends, extension
from golf_fast.ops.launch import triton_obstacle
from golf_fast.recipes import RECIPES


def test_a_gpu_does_not_run_a_reference_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = backends.Backend("reference", "plain PyTorch runs anywhere; not triton: Triton is not installed")
    monkeypatch.setattr(backends, "describe", lambda device: [("relu2_mlp", slow)])
    assert resolve_backends(torch.device("cpu")) == {"relu2_mlp": slow}
    with pytest.raises(InputError, match=r"relu2_mlp has only its slow reference .*Triton is not installed"):
        resolve_backends(torch.device("cuda"))
    monkeypatch.setattr(backends, "describe", lambda device: [("relu2_mlp", replace(slow, asked_for=True))])
    assert resolve_backends(torch.device("cuda"))["relu2_mlp"].asked_for


def test_a_gpu_needs_no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip installed torch there is seldom an nvcc to build the CUDA kernels with."""
    pytest.importorskip("triton")
    assert compress.quantize  # imports the ops of the whole run
    monkeypatch.setattr(extension, "missing", "golf_fast._C was built without CUDA")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert triton_obstacle("cuda") is None
    backends.forget()
    try:
        found = resolve_backends(torch.device("cuda"))
    finally:
        backends.forget()
    assert found["bitpack"].name == "plain"
    assert {found[op].name for op in ("window_attention", "exclusive_gate", "qkv_attention", "update")} == {"triton"}
    assert {found[op].name for op in ("gated_smear", "lane_mix", "rms_norm")} == {"plain"}


def test_a_dtype_without_kernels_is_one_line_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a CPU may have computed in float32, for which a GPU has no kernels of matrix products."""
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(backends, "describe", lambda device: [(op, backends.Backend(chosen[op], "")) for op in chosen])
    chosen = {"relu2_mlp": "triton", "residual_mix": "triton", "window_attention": "sdpa"}
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(InputError, match=r"compute dtype float\d\d: .* of relu2_mlp on cuda .* choose bfloat16"):
            require_compute_dtype(gpu, dtype)
    require_compute_dtype(gpu, torch.bfloat16)
    chosen = dict.fromkeys(chosen, "reference")
    require_compute_dtype(gpu, torch.float32)
    chosen = dict.fromkeys(chosen, "native")
    require_compute_dtype(cpu, torch.float32)


def test_a_shape_without_kernels_is_one_line_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "describe", lambda device: [(op, backends.Backend(name, "")) for op in ops])
    ops, name, gpu = ("linear_residual", "relu2_mlp", "qkv_attention"), "triton", torch.device("cuda")
    wrong = {
        "model.dim / model.heads is 16: .* 32, 64, 128": ModelConfig(dim=128, heads=8, kv_heads=4),
        "model.dim is 96: .* linear_residual on cuda .* multiples of 64": ModelConfig(dim=96, heads=3, kv_heads=3),
        r"model.dim \* model.mlp_mult, is 160: .* relu2_mlp": ModelConfig(dim=128, heads=4, kv_heads=4, mlp_mult=1.25),
    }
    for said, config in wrong.items():
        with pytest.raises(InputError, match=said):
            require_kernel_shapes(gpu, config)
    for recipe in RECIPES.values():
        require_kernel_shapes(gpu, recipe().model)
    name = "reference"
    for config in wrong.values():
        require_kernel_shapes(gpu, config)


def test_an_impossible_backend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    backends.forget()
    monkeypatch.setenv(backends.VARIABLE, "relu2_mlp=magic")
    with pytest.raises(InputError, match="relu2_mlp=magic: its backends are"):
        resolve_backends(torch.device("cpu"))
    backends.forget()
