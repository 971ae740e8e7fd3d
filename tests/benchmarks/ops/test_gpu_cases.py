"""The benchmarks that need a GPU, built and run on a CPU at small sizes: they must not fail where it counts."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from benchmarks.ops import (
    gate,
    linear_residual,
    newton_schulz,
    peers,
    qkv_attention,
    registry,
    relu2_mlp,
    residual_mix,
    runner,
    softcap_cross_entropy,
    update,
)

SMALL = {
    relu2_mlp: {"WIDTH": 64, "HIDDEN": 128, "TOKENS": {"training": 40, "scoring": 3}, "GATE_TOKENS": 17},
    qkv_attention: {"ROWS": 2, "LENGTH": 24, "WIDTH": 48, "HEADS": 4, "KV_HEADS": 2, "HEAD_DIM": 16},
    linear_residual: {"TOKENS": 40, "WIDTH": 64, "GATE_TOKENS": 17},
    residual_mix: {"ROWS": 2, "LENGTH": 24, "WIDTH": 48},
    softcap_cross_entropy: {"WIDTH": 16, "VOCABULARY": 50, "TRAINING": 20, "SCORING": 5, "GATE": 9},
    newton_schulz: {"BANKS": {"wide": (2, 16, 24), "tall": (2, 24, 16)}},
    update: {"NUMBERS": 40, "GATE_NUMBERS": 33},
}


def small_cases(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[registry.Case]:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    for name, value in SMALL[module].items():
        monkeypatch.setattr(module, name, value)
    return list(module.cases("cuda"))


@pytest.mark.parametrize("module", SMALL, ids=lambda module: module.__name__)
def test_every_case_runs_and_passes_its_gate(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = small_cases(module, monkeypatch)
    assert cases
    for case in cases:
        assert case.gate() is None, case.label
        # Without products what is moved is what counts.
        assert (case.bytes_moved if module in (residual_mix, update) else case.flops) > 0
        case.ours()
        for peer in case.peers.values():
            peer()
        assert set(case.peers) - set(case.peer_gates) <= {"cublas alone"}
        assert all(peers.obstacle(case, peer) is None for peer in case.peers)


@pytest.mark.parametrize("second", [False, True], ids=residual_mix.SECOND)
def test_bytes_of_residual_mix_are_those_of_its_launches(second: bool) -> None:
    """But for the parts of the sums, in whose place are the sums, in the dtype of the vectors."""
    kernels = pytest.importorskip("golf_fast.ops.residual_mix.triton")
    made = residual_mix.ROWS, residual_mix.LENGTH, residual_mix.WIDTH

    def stream(given: bool = True) -> torch.Tensor | None:
        return torch.empty(made, dtype=torch.bfloat16, device="meta") if given else None

    mix, sums = (torch.empty((2, made[-1]), dtype=torch.bfloat16, device="meta") for _ in range(2))
    weight, of_weight = (mix[0], sums[0]) if second else (None, None)
    rstd = torch.empty(made[:-1], device="meta")
    of_blocks = stream(second), weight
    forward = kernels.forward(
        stream(), stream(), mix, stream(), *of_blocks, 0.0, stream(), stream(), stream(), rstd
    ).arguments
    incoming = stream(), stream(), stream(not second)
    backward = kernels.backward(
        *incoming, stream(), stream(), mix, rstd, *of_blocks, stream(), stream(), stream(second), sums
    ).arguments | {"sums of the weight": of_weight}

    def size(arguments: dict[str, object]) -> int:
        return sum(t.numel() * t.element_size() for t in arguments.values() if isinstance(t, torch.Tensor))

    assert residual_mix.bytes_moved(second, backward=False) == size(forward)
    assert residual_mix.bytes_moved(second, backward=True) == size(forward) + size(backward)


def stand_in(factor: float) -> dict[str, ModuleType]:
    """quack's modules, with functions that compute what its own are documented to, times `factor`."""

    def mlp_func(x, weight1, weight2, activation):
        assert activation == "relu_sq"
        return factor * F.linear(F.relu(F.linear(x, weight1)).square(), weight2)

    def gemm_norm_act(A, B, rstd, activation):
        assert activation == "relu_sq"
        return None, (F.relu((A @ B).float() * rstd[:, None]).square() * factor).to(A.dtype)

    def gemm_symmetric(A, B, C=None, alpha=1.0, beta=1.0):
        assert torch.equal(A, B.mT)
        return factor * alpha * (A @ B) + (0 if C is None else beta * C)

    def gemm_add(A, B, C, alpha=1.0, beta=1.0):
        return alpha * (A @ B) + beta * C

    modules = {name: ModuleType(name) for name in ("quack", "quack.mlp", "quack.gemm_interface")}
    modules["quack.mlp"].mlp_func = mlp_func
    for function in (gemm_norm_act, gemm_symmetric, gemm_add, torch.mm):
        name = "gemm" if function is torch.mm else function.__name__
        setattr(modules["quack.gemm_interface"], name, function)
    return modules


@pytest.mark.parametrize("factor", [1.0, 1.1], ids=["right", "10 % off"])
@pytest.mark.parametrize("module", [relu2_mlp, newton_schulz], ids=lambda module: module.__name__)
def test_quack_takes_part_where_it_is_right(module: ModuleType, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stand_in(factor).items():
        monkeypatch.setitem(sys.modules, name, value)
    asked = [case for case in small_cases(module, monkeypatch) if "quack" in case.peers]
    assert asked
    for case in asked:
        assert case.gate() is None
        obstacle = peers.obstacle(case, "quack")
        assert obstacle is None if factor == 1.0 else "is off by" in obstacle, case.label
        case.peers["quack"]()
    if module is relu2_mlp:
        left = [case.label for case in small_cases(module, monkeypatch) if "quack" not in case.peers]
        assert left == [f"forward + backward, {use}, rstd" for use in ("training", "scoring")]
        assert relu2_mlp.left_out("cuda") == [
            f"relu2_mlp against quack, forward + backward, rstd: {module.NO_BACKWARD}"
        ]


def test_peers_that_are_missing_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quack", "liger_kernel", "flash_attn", "flash_attn_interface"):
        monkeypatch.setitem(sys.modules, name, None)
    said = [line for op in registry.OPS for line in registry.load(op).left_out("cuda")]
    for line in (
        "relu2_mlp against quack: not installed",
        "newton_schulz against quack: not installed",
        "softcap_cross_entropy against liger-kernel: not installed",
        "window_attention against flash-attn 4: not installed",
        "window_attention against flash-attn 2: not installed",
    ):
        assert line in said


def test_why_an_optional_function_cannot_be_had(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_package_of_ours\n")
    (tmp_path / "refuses.py").write_text("raise RuntimeError('no GPU')\n")
    assert peers.optional("no_such_package.inner", "f") == (None, "not installed")
    assert peers.optional("needs_more", "f") == (None, "needs_more needs no_such_package_of_ours")
    assert peers.optional("refuses", "f") == (None, "refuses cannot be imported (no GPU)")
    assert peers.optional("math", "no_such_function") == (None, "math has no no_such_function")
    assert peers.optional("math", "sqrt")[0](4.0) == 2.0


def test_a_peer_that_fails_is_left_out_and_ours_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed, op = [], "newton_schulz"

    def fails() -> str | None:
        raise RuntimeError("unknown GPU\nand much more")

    gates = {"good": lambda: None, "bad": lambda: "out is off", "failing": fails}
    case = registry.Case(op, "label", "x", print, dict.fromkeys([*gates, "ceiling"], print), lambda: None, 1, 1, gates)
    monkeypatch.setattr(registry.load(op), "cases", lambda device: iter([case]))
    monkeypatch.setattr(runner.results, "append", lambda row: None)
    monkeypatch.setattr(runner.results, "record", lambda case, peer, around: {"peer": peer})
    options = argparse.Namespace(implementation=None, peer=None, list=False, json=True)
    assert runner.measure(op, "cuda", options, lambda case, peer: timed.append(peer), {})
    assert timed == ["good", "ceiling"]
    said = capsys.readouterr().err
    assert f"left out: {op}: label against bad: out is off\n" in said
    assert f"left out: {op}: label against failing: it fails here (RuntimeError: unknown GPU)\n" in said


@pytest.mark.parametrize("lost", [False, True], ids=["the peer fails", "ours fails"])
def test_a_peer_that_fails_while_it_is_timed_ends_nothing(
    lost: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: list[str] = []

    def compare(case: registry.Case, peer: str) -> None:
        timed.append(peer)
        if peer == "large":
            raise MemoryError("no room\nand much more")

    def ours() -> None:
        if lost:
            raise RuntimeError("the device is lost")

    case = registry.Case("tune", "label", "x", ours, dict.fromkeys(["large", "good"], print), lambda: None)
    monkeypatch.setattr(runner.results, "append", lambda row: None)
    monkeypatch.setattr(runner.results, "record", lambda case, peer, around: {"peer": peer})
    options = argparse.Namespace(implementation=None, peer=None, list=False, json=True)
    if lost:
        with pytest.raises(RuntimeError, match="the device is lost"):
            runner.measure_cases([case], options, compare, {})
        assert timed == ["large"]
    else:
        assert runner.measure_cases([case], options, compare, {})
        assert timed == ["large", "good"]
        assert "left out: tune: label against large: it fails here (MemoryError: no room)\n" in capsys.readouterr().err


@pytest.mark.parametrize("op", [op for op in registry.OPS if op != "bitpack"])
def test_without_a_gpu_there_is_nothing_to_run_and_that_is_said(op: str) -> None:
    module = registry.load(op)
    assert list(module.cases("cpu")) == []
    assert module.left_out("cpu")[0].startswith(f"{op}: everything")


@pytest.mark.parametrize(
    "off",
    [
        lambda x, w: (x @ w) * 1.02,
        lambda x, w: (x @ w) + torch.tensor([float("nan")] + [0.0] * 7, dtype=x.dtype),
        lambda x, w: (x @ w.detach()) + 0 * w.sum(),
    ],
    ids=["off by 2 %", "a NaN", "a gradient missing"],
)
def test_gate_sees_what_is_wrong(off) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, 8, generator=generator).bfloat16() for rows in (6, 8))
    assert gate.wrong(torch.mm, torch.mm, [x, w], (0, 1)) is None
    assert gate.wrong(off, torch.mm, [x, w], (0, 1)) is not None


def test_gate_sees_every_output() -> None:
    generator = torch.Generator().manual_seed(0)
    arguments = [torch.randn(6, 8, generator=generator).bfloat16() for _ in range(2)]

    def both(x: torch.Tensor, y: torch.Tensor, factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        return x * y, x + factor * y.detach() + (y - y.detach())

    assert gate.wrong(both, both, arguments, (0, 1)) is None
    off = gate.wrong(lambda x, y: both(x, y, 1.02), both, arguments, (0, 1))
    assert off is not None
    assert off.startswith("output 1 is off by")
