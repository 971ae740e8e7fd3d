"""The benchmark of rate against error on a small file of weights."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmarks import rate, results
from benchmarks.report.rows import read


def test_a_trellis_is_nearer_to_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        "x.weight": torch.randn(400, 300),
        "y.weight": torch.randn(200, 300) * 3,
        "word_embeddings": torch.ones(9, 9),
    }
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    monkeypatch.setattr(rate, "DRAWS", (800, 100))
    monkeypatch.setattr(rate, "STEPS", (0.5, 0.3))
    monkeypatch.setenv(results.VARIABLE, str(tmp_path / "results"))
    rate.main([str(tmp_path / "weights.safetensors"), "--plot", str(tmp_path / "rate.svg")])
    rows = read(tmp_path / "results")
    assert len(rows) == 2 * (len(rate.LINES) + len(rate.FILES))
    above = {(row["way"], row["of"], row["step"]): row["above"] for row in rows}
    for step in rate.STEPS:
        lines = [above[way, "Gaussian", step] for way in rate.LINES]
        assert lines[0] > lines[1] + 0.14 > lines[2] + 0.145 > 0.19
        files = [above[way, "weights.safetensors", step] for way in rate.FILES]
        assert files[0] > files[1] + 0.14
    assert (tmp_path / "rate.svg").read_text().startswith("<?xml")
    assert "trellis of 8 states" in capsys.readouterr().out
