"""The benchmarks that need a GPU, built and run on a CPU at small sizes: they must not fail where it counts."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gate, newton_schulz, registry, relu2_mlp, softcap_cross_entropy

SMALL = {
    relu2_mlp: {"WIDTH": 64, "HIDDEN": 128, "TOKENS": {"training": 40, "scoring": 3}, "GATE_TOKENS": 17},
    softcap_cross_entropy: {"WIDTH": 16, "VOCABULARY": 50, "TRAINING": 20, "SCORING": 5, "GATE": 9},
    newton_schulz: {"BANKS": {"wide": (2, 16, 24), "tall": (2, 24, 16)}},
}


@pytest.mark.parametrize("module", SMALL, ids=lambda module: module.__name__)
def test_every_case_runs_and_passes_its_gate(module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    for name, value in SMALL[module].items():
        monkeypatch.setattr(module, name, value)
    cases = list(module.cases("cuda"))
    assert cases
    for case in cases:
        assert case.gate() is None, case.label
        assert case.flops > 0
        case.ours()
        for peer in case.peers.values():
            peer()


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
