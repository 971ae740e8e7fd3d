import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from golf_fast.compress import costs, dequantize, prune, quantize, read_artifact, write_artifact
from golf_fast.config import CompressConfig

CONFIG = CompressConfig(
    quantizer="sigma", clip_sigma=30, codec="rans", fp16_max_elements=100, prune_min_elements=1000, prune_quantile=0.2,
    calibration_tokens=1, low_rank=2, low_rank_tensors=1,
)  # fmt: skip


def model() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    names = ("tok_emb.weight", "blocks.0.attn.c_q.weight", "blocks.0.mlp.fc.weight")
    weights = {name: torch.randn(64, 48, generator=generator) for name in names}
    inputs = torch.randn(300, 48, generator=generator)
    return {**weights, "smear.gate": torch.rand(48, generator=generator)}, dict.fromkeys(names[1:], inputs.T @ inputs)


def distance(weights: Mapping[str, torch.Tensor]):
    """A stand-in for bits per byte that adds up over tensors: how far a state dict is from the trained one."""
    return lambda given: sum(float((given[name] - tensor).double().square().sum()) for name, tensor in weights.items())


def test_steps_and_tensors(tmp_path: Path) -> None:
    weights, hessians = model()
    pruned = prune(weights, CONFIG)
    stored = quantize(pruned, CONFIG, hessians)
    size = write_artifact(tmp_path / "a", stored, {}, **CONFIG.coding())
    artifact = read_artifact(tmp_path / "a")
    evaluate = distance(weights)

    steps = costs.steps(weights, pruned, artifact, CONFIG, evaluate, compare_zstd=True)
    assert [step.name for step in steps] == [
        "trained, averaged",
        "pruned",
        "quantized: sigma",
        "low-rank corrections",
        "coded by zstd",
        "coded by rans: the artifact",
    ]
    uncorrected = {name: held for name, held in stored.items() if ":" not in name}
    elements, scales = 64 * 48, 64 * 2
    assert steps[0].bytes == 4 * (3 * elements + 48)
    assert steps[2].bytes == 2 * elements + 2 * 48 + (elements * 6 + elements * 5) // 8 + 2 * scales
    assert steps[3].bytes == steps[2].bytes + 2 * 64 + 2 * 48 + 8
    assert steps[-1].bytes == size
    assert steps[-2].bytes == write_artifact(tmp_path / "z", stored, {}, **CONFIG.coding() | {"codec": "zstd"})
    assert [step.bpb for step in steps[:3]] == [0, evaluate(pruned), evaluate(dequantize(uncorrected))]
    assert [step.bpb for step in steps[3:]] == [evaluate(dequantize(stored))] * 3

    by_name = {cost.name: cost for cost in costs.tensor_costs(weights, artifact, hessians, evaluate)}
    assert set(by_name) == set(hessians)
    assert {cost.form for cost in by_name.values()} in ({"int6 + low rank", "int5"}, {"int6", "int5 + low rank"})
    for name, cost in by_name.items():
        lost = distance({name: weights[name]})(dequantize(stored))
        assert cost.bpb_change == pytest.approx(lost)
        assert cost.error == pytest.approx((lost / float(weights[name].square().sum())) ** 0.5)
        assert 0 < cost.output_error < 1
        assert 1 < cost.bits < 6
    assert sum(cost.bits * elements / 8 for cost in by_name.values()) < size


def test_without_an_evaluation(tmp_path: Path) -> None:
    weights, _ = model()
    config = dataclasses.replace(CONFIG, prune_quantile=0.0, low_rank=0)
    write_artifact(tmp_path / "a", quantize(weights, config), {}, **config.coding())
    artifact = read_artifact(tmp_path / "a")
    steps = costs.steps(weights, weights, artifact, config)
    assert [step.name for step in steps] == ["trained, averaged", "quantized: sigma", "coded by rans: the artifact"]
    assert {step.bpb for step in steps} == {None}
    found = costs.tensor_costs(weights, artifact)
    assert {(cost.output_error, cost.bpb_change) for cost in found} == {(None, None)}


def test_the_bytes_of_the_groups_add_up_to_the_file(tmp_path: Path) -> None:
    weights, hessians = model()
    stored = quantize(weights, dataclasses.replace(CONFIG, low_rank_tensors=2), hessians)
    assert sum(":" in name for name in stored) == 4
    size = write_artifact(tmp_path / "a", stored, {}, **CONFIG.coding())
    artifact = read_artifact(tmp_path / "a")
    parts = costs.bytes_by_group(artifact)
    assert set(parts) == {"embedding", "attention", "mlp", "control", "header"}
    assert sum(parts.values()) == size
    assert list(parts.values()) == sorted(parts.values(), reverse=True)
    assert parts["attention"] > 64 * 48 * 2 / 8 + 2 * (64 + 48), "its correction, at least one byte a number"
    groups = {name: "mlp" if "tok_emb" in name else "control" for name in weights}
    assert set(costs.bytes_by_group(artifact, groups)) == {"mlp", "control", "header"}
