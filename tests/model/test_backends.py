"""Which implementations a model runs with is decided before it runs, in every program alike."""

from dataclasses import replace

import pytest
import torch

from golf_fast import compress
from golf_fast.errors import InputError
from golf_fast.model.backends import limited_ops, require_compute_dtype, resolve_backends
from golf_fast.ops import backends, extension
from golf_fast.ops.launch import triton_obstacle


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
    assert limited_ops(gpu, torch.float32) == limited_ops(gpu, torch.float64) == ["relu2_mlp"]
    assert not limited_ops(gpu, torch.bfloat16)
    with pytest.raises(InputError, match=r"compute dtype float32: .* of relu2_mlp on cuda .* choose bfloat16"):
        require_compute_dtype(gpu, torch.float32)
    require_compute_dtype(gpu, torch.bfloat16)
    chosen = dict.fromkeys(chosen, "reference")
    require_compute_dtype(gpu, torch.float32)
    chosen = dict.fromkeys(chosen, "native")
    require_compute_dtype(cpu, torch.float32)


def test_an_impossible_backend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    backends.forget()
    monkeypatch.setenv(backends.VARIABLE, "relu2_mlp=magic")
    with pytest.raises(InputError, match="relu2_mlp=magic: its backends are"):
        resolve_backends(torch.device("cpu"))
    backends.forget()
