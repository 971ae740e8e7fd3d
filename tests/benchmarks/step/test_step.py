"""One micro-step by part: the gate, the times, what is recorded, and the whole command at a small size."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_step import SMALL, small

from benchmarks.step import command as step
from benchmarks.step import gate as step_gate
from benchmarks.step import measure, roofline, rows
from benchmarks.step import parts as step_parts
from golf_fast.errors import InputError
from golf_fast.model import GPT

WQ = "the gradient of qo_bank"


def batch(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(70, (rows, 25), generator=torch.Generator().manual_seed(3))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def test_every_part_has_a_floor_and_makes_the_gradients_that_it_should(model: GPT) -> None:
    x, y = batch()
    made = step_parts.parts(model, x, y)
    assert tuple(part.name for part in made) == roofline.PARTS
    for part in made:
        out = part.function(*part.inputs)
        outputs = out if isinstance(out, tuple) else (out,)
        gradients = torch.autograd.grad(outputs, part.inputs, [torch.ones_like(t) for t in outputs])
        assert all(bool(g.any()) and bool(g.isfinite().all()) for g in gradients), part.name
    assert [part.times for part in made] == [1, 3, 3, 3, 3, 1]


def test_the_parts_in_their_order_are_the_model() -> None:
    config = replace(SMALL, layers=1, backout=False)  # no block of the second half, so no skip
    model = GPT(config)
    step_parts.fill(model)
    with torch.no_grad():
        for scale, first in ((model.attn_scale, 0.5), (model.mlp_scale, 0.7)):
            scale.copy_(torch.linspace(first, 2.0, scale.shape[1]))
    x, y = batch()
    embedding, qkv, attention, output, mlp, head = step_parts.parts(model, x, y)
    stream = embedding.function()
    mixed, packed = qkv.function(stream, stream, *qkv.inputs[2:])
    attended = attention.function(packed, *attention.inputs[1:])
    stream, rstd = output.function(mixed, attended.flatten(2), *output.inputs[2:])
    stream_after = mlp.function(stream, rstd, *mlp.inputs[2:])
    torch.testing.assert_close(head.function(stream_after, head.inputs[1]), model(x, y))


def test_nothing_that_is_multiplied_is_zero(model: GPT) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            assert all(bool(row.any()) for row in parameter.flatten(1)), name


def test_gate_passes_the_model_and_sees_what_is_wrong(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = batch()
    assert step_gate.wrong(model, model, x, y) is None
    assert "the compiled loss" in str(step_gate.wrong(model, lambda x, y: model(x, y) * 1.05, x, y))
    honest = step_gate.results
    for name, factor in (("the gradient of mlp_up", 1.2), ("the gradient of kv_bank", float("nan")), ("loss", 1.1)):
        calls = count()

        def spoiled(*arguments, calls=calls, name=name, factor=factor, **keywords):
            found = honest(*arguments, **keywords)
            if next(calls) == 2:  # ours, after the exact and the plain one
                found[name] = found[name] * factor
            return found

        monkeypatch.setattr(step_gate, "results", spoiled)
        assert str(step_gate.wrong(model, model, x, y)).startswith(name)


def test_all_that_is_wrong_is_named(model: GPT) -> None:
    x, y = batch()
    exact, low = step_gate.plain(model, x, y)
    wrong = {name: 2 * tensor for name, tensor in exact.items()}
    found = str(step_gate.beyond(exact | {"loss": wrong["loss"], WQ: wrong[WQ]}, exact, low))
    assert found.startswith("loss is off by ")
    assert f"; {WQ} is off by " in found
    assert step_gate.beyond(exact, exact, low) is None
    many = sum(tensor.numel() > 1 for tensor in exact.values())
    assert str(step_gate.beyond(wrong, exact, low)).endswith(f"; and {many - step_gate.SHOWN} more")


def test_times_are_those_of_the_forward_and_of_the_backward(model: GPT) -> None:
    x, y = batch()
    calls: list[object] = []

    def watch(work, before) -> float:
        """Takes each sample twice, as where the host was slower than the device."""
        calls.append(work)
        for _ in range(2):
            before()
            work()
        return [10.0, 20.0][len(calls) % 2]

    ahead, back = step_parts.time_passes(model, (x, y), list(model.parameters()), watch, 3)
    assert (ahead.median, back.median) == (20.0, 10.0)
    assert len(calls) == 2 * (3 + 2)


def test_the_command_measures_prints_and_records(own_results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step.main(["--recipe", "small", "--device", "cpu", "--rounds", "2", "--kernels", "2"])
    text = capsys.readouterr().out
    assert "one micro-step of 48 tokens in rows of 24, float32, not compiled" in text
    assert "projected step of 2 such devices, 96 tokens" in text
    assert "A projection" in text
    (row,) = rows.merged([json.loads(line) for line in (own_results / "step.jsonl").read_text().splitlines()])
    assert [part["name"] for part in row["parts"]] == list(roofline.PARTS)
    assert [part["name"] for part in row["optimizer"]] == ["clip", "Muon", "AdamW", "average"]
    updates = sum(part["ms"]["median"] for part in row["optimizer"])
    assert row["projected_step"] == pytest.approx(row["micro_step"]["median"] + updates)
    at = roofline.Ceilings(row["ceiling_teraflops"], row["ceiling_gigabytes_per_second"])
    mlp = row["parts"][4]
    pieces = roofline.forward(roofline.Shapes(SMALL, 2, 24, 4))["MLP + residual"]
    assert mlp["forward"]["floor"] == pytest.approx(roofline.floor_ms(pieces, at))
    assert mlp["forward"]["times_floor"] == pytest.approx(mlp["forward"]["ms"]["median"] / mlp["forward"]["floor"])
    assert len(row["kernels"]) == 3
    assert row["upstream"] is None


def recorded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "step.jsonl").read_text().splitlines()]


def test_each_time_is_on_disk_as_soon_as_it_is_known(
    own_results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cuts a run off leaves what was measured before: here the third part fails."""
    honest, calls = measure.time_passes, count()

    def failing(*arguments: Any) -> Any:
        if next(calls) == 3:  # the whole, two parts, ...
            raise RuntimeError("cut off")
        return honest(*arguments)

    monkeypatch.setattr(measure, "time_passes", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        step.main(["--recipe", "small", "--device", "cpu", "--rounds", "1"])
    rows_left = recorded(own_results)
    assert [row["section"] for row in rows_left] == ["whole", "part", "part"]
    assert len({row["run"] for row in rows_left}) == 1
    said = capsys.readouterr().out
    assert said.startswith("micro-step ")
    assert "embedding: forward " in said
    (record,) = rows.merged(rows_left)
    assert "projected_step" not in record


def test_only_what_is_asked_for_is_measured(own_results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--rounds", "1", "--only", "update,whole", "--results", str(own_results / "other")]
    step.main(["--recipe", "small", "--device", "cpu", *flags])
    assert [row["section"] for row in recorded(own_results / "other")] == ["whole"] + ["update"] * 4
    assert "projected step of 2" in capsys.readouterr().out
    with pytest.raises(InputError, match="'half' is no section: they are whole,parts,update,kernels"):
        step.main(["--recipe", "small", "--device", "cpu", "--only", "whole,half"])


def test_what_compiles_while_it_is_timed_has_no_time() -> None:
    compiled = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    with measure.compiling_nothing("it"):
        pass
    with pytest.raises(InputError, match="no time of it: it was compiled again"), measure.compiling_nothing("it"):
        compiled(torch.ones(3))
    with measure.compiling_nothing("it"):
        compiled(torch.ones(3))
    problems: list[str] = []
    with measure.compiling_nothing("it", problems):
        compiled(torch.ones(4))
    assert problems == ["it was compiled again while it was timed"]


def test_the_gated_graph_is_the_timed_one(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate compiles the model, once; nothing after it compiles it again."""
    monkeypatch.setattr(measure, "compiles", lambda *_: True)
    honest = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: honest(function, backend="eager", dynamic=False))
    torch._dynamo.reset()
    made = measure.MicroStep(small(), 48, torch.device("cpu"), 1)
    before = measure.graphs()
    assert made.wrong() is None
    assert measure.graphs() - before == 1
    made.conditions()
    list(made.whole())
    list(made.kernels(1))
    assert measure.graphs() - before == 1


def test_a_compiled_model_with_a_wrong_gradient_is_seen(model: GPT) -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return 1.05 * grad

    found = step_gate.wrong(model, lambda x, y: Doubled.apply(model(x, y)), *batch())
    assert found is not None
    assert found.startswith("compiled, the gradient of ")
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_wrong_model_is_timed_where_that_is_asked_for(
    own_results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_gate, "wrong", lambda *_: "loss is off")
    step.main(["--recipe", "small", "--device", "cpu", "--rounds", "1", "--only", "whole", "--anyway"])
    assert "WRONG, so these times are no measurements: loss is off" in capsys.readouterr().out
    assert recorded(own_results)[0]["wrong"] == "loss is off"


def test_the_optimizer_is_timed_without_moving_the_weights(model: GPT) -> None:
    x, y = batch()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.autograd.backward(model(x, y))
    found = measure.update_of(model, small())
    assert [name for name, _, _ in found] == ["clip", "Muon", "AdamW", "average"]
    for _, work, pieces in found:
        work()
        assert sum(piece.bytes_moved for piece in pieces) > 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)
        parameter.grad = None


def test_without_a_gpu_a_large_step_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"--tokens is 98304: 21\.\d TFLOP .* --recipe tiny --tokens 2048"):
        step.main(["--recipe", "seed", "--device", "cpu"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokens", "25"], "--tokens is 25: it must be a multiple of the recipe's rows of 24"),
        (["--tokens", "-24"], "--tokens is -24"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--upstream", "missing.py"], "--upstream missing.py: there is no such file"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], message: str, own_results: Path) -> None:
    with pytest.raises(InputError, match=message):
        step.main(["--recipe", "small", "--device", "cpu", *flags])
    assert not own_results.exists()


def test_a_wrong_model_gets_no_times(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_gate, "wrong", lambda *_: "loss is off")
    with pytest.raises(InputError, match="no times, for the model computes something wrong on cpu: loss is off"):
        step.main(["--recipe", "small", "--device", "cpu"])
    assert not own_results.exists()
