"""An artifact can be made of a run's checkpoint after the run."""

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from golf_fast.checks import for_file
from golf_fast.compress import dequantize, quantize, read_artifact
from golf_fast.compress.__main__ import main
from golf_fast.config import CompressConfig, ModelConfig, RunConfig
from golf_fast.console import exit_with
from golf_fast.model import GPT, upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.runs import RunPaths

MODEL = ModelConfig(vocab_size=300, dim=32, layers=2, heads=2, kv_heads=1, bigram_buckets=64, bigram_dim=8)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """What a run that ended after its training left."""
    paths = RunPaths(tmp_path / "run")
    paths.weights.parent.mkdir(parents=True)
    config = RunConfig(
        model=MODEL, compress=CompressConfig(quantizer="gptq", calibration_tokens=1024, prune_quantile=0.0)
    )
    paths.config.write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
    weights = {name: tensor.contiguous() for name, tensor in upstream.export(GPT(MODEL, seed=3)).items()}
    safetensors.torch.save_file(weights, paths.weights)
    return paths


def make(monkeypatch: pytest.MonkeyPatch, *arguments: Path | str) -> int:
    monkeypatch.setattr(sys, "argv", ["compress", "make", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("by", ["folder", "weights"])
def test_the_artifact_is_the_one_of_a_calibration_that_was_given_up(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    assert make(monkeypatch, run.folder if by == "folder" else run.weights) == 0
    said = capsys.readouterr().out
    assert "quantizer gptq reads training tokens: sigma is used" in said
    assert f"{run.artifact}: {run.artifact.stat().st_size:,} bytes, rans" in said
    held = read_artifact(run.artifact)
    assert held.model_config == for_file(MODEL)
    settings = CompressConfig(quantizer="sigma", prune_quantile=0.0)
    weights = safetensors.torch.load_file(run.weights)
    expected = dequantize(quantize(weights, settings, groups=quantization_groups(MODEL)))
    found = dequantize(held.tensors)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_is_there_is_not_replaced(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run.artifact.write_text("mine")
    assert make(monkeypatch, run.folder) == 2
    assert "artifact.golf: is there already and is not replaced" in capsys.readouterr().err
    assert make(monkeypatch, run.folder, "--output", tmp_path / "new.golf") == 0
    assert (run.artifact.read_text(), (tmp_path / "new.golf").exists()) == ("mine", True)


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "another", "nan", "float8", "int64", "huge"])
def test_a_checkpoint_that_cannot_be_used_is_one_line(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    content, weights = run.weights.read_bytes(), safetensors.torch.load_file(run.weights)
    if damage == "gone":
        run.weights.unlink()
    elif damage in ("cut", "text"):
        run.weights.write_bytes(content[:-10] if damage == "cut" else b"text" * 99)
    elif damage in ("float8", "int64"):
        weights["smear.gate"] = weights["smear.gate"].to(torch.float8_e5m2 if damage == "float8" else torch.int64)
        safetensors.torch.save_file(weights, run.weights)
    elif damage == "huge":
        safetensors.torch.save_file(weights | {"smear.gate": torch.full((32,), 3e38)}, run.weights)
    else:
        name = min(weights)
        weights[name] = weights[name] * float("nan") if damage == "nan" else weights[name][None]
        safetensors.torch.save_file(weights, run.weights)
    assert make(monkeypatch, run.folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "weights.safetensors: " in error
    assert error.count("\n") == 1
    assert not run.artifact.exists()
