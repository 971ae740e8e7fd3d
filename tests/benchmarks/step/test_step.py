"""One micro-step by part: floors, the gate, a record script beside ours, and the whole command at a small size."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results
from benchmarks.step import command as step
from benchmarks.step import gate as step_gate
from benchmarks.step import measure, record_script, roofline, rows
from benchmarks.step import parts as step_parts
from golf_fast.config import ModelConfig, RunConfig, TrainConfig
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.recipes import RECIPES, seed

SMALL = ModelConfig(vocab_size=70, dim=32, layers=3, heads=4, kv_heads=2, bigram_buckets=17, bigram_dim=8)
TRAIN = TrainConfig(batch_tokens=96, micro_batches=2, seq_len=24, compute_dtype="float32", embedding_dtype="float32")

PLAIN_SCRIPT = """
import os
import torch
from torch import nn
from torch.nn import functional as F

assert __name__ != "__main__", "it was started, not loaded"


class Hyperparameters:
    loss_scale = float(os.environ.get("LOSS_SCALE", 3.0))


class GPT(nn.Module):
    def __init__(self, vocab_size, num_layers, model_dim, mlp_mult, tie_embeddings, loss_scale, later_idea=0.5):
        super().__init__()
        assert (num_layers, mlp_mult, tie_embeddings) == (3, 3, True) and isinstance(mlp_mult, int)
        self.tok_emb = nn.Embedding(vocab_size, model_dim)
        self.out = nn.Parameter(torch.zeros(model_dim, model_dim))
        self.loss_scale = loss_scale

    def forward(self, input_ids, target_ids):
        x = self.tok_emb(input_ids) @ self.out
        logits = x @ self.tok_emb.weight.T
        return self.loss_scale * F.cross_entropy(logits.flatten(0, 1), target_ids.flatten())


if __name__ == "__main__":
    raise SystemExit("training")
"""

SAME_SCRIPT = """
from golf_fast.model import GPT as Banks


class Hyperparameters:
    pass


class GPT(Banks):
    def __init__(self, h):
        super().__init__(CONFIG)
        assert (h.num_layers, h.model_dim, h.bigram_vocab_size) == (3, 32, 17)
"""


def small() -> RunConfig:
    return RunConfig(recipe="small", model=SMALL, train=TRAIN)


@pytest.fixture(autouse=True)
def own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setenv(results.VARIABLE, str(folder))
    monkeypatch.setitem(RECIPES, "small", small)
    monkeypatch.setattr(measure, "CPU_PRODUCT", 64)
    monkeypatch.setattr(measure, "CPU_COPY_BYTES", 1 << 16)
    return folder


@pytest.fixture(scope="module")
def model() -> GPT:
    made = GPT(SMALL)
    step_parts.fill(made)
    return made


def batch(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(70, (rows, 25), generator=torch.Generator().manual_seed(3))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def test_floors_are_those_of_the_roofline_of_the_seed() -> None:
    shapes = roofline.Shapes(seed().model, 48, 2048, 2)
    at = roofline.Ceilings(800, 3000)
    ahead, back = (
        {piece.name: piece.floor_ms(at) for pieces in way(shapes).values() for piece in pieces}
        for way in (roofline.forward, roofline.backward)
    )
    assert {name: round(floor, 2) for name, floor in ahead.items()} == {
        "embedding": 0.07,
        "QKV": 1.68,
        "attention": 2.58,
        "output + residual": 1.01,
        "MLP up": 1.93,
        "MLP down + residual": 1.93,
        "head + loss": 0.13,
    }
    assert {name: round(floor, 2) for name, floor in back.items()} == {
        "embedding": 0.16,
        "dx (attention)": 1.68,
        "dWqkv": 1.29,
        "attention": 6.45,
        "dO": 0.67,
        "dWo": 0.67,
        "dpre": 2.35,
        "dW up + dW down": 3.87,
        "dx (MLP)": 2.01,
        "mix": 1.01,
        "head": 0.26,
    }
    assert round(sum(ahead.values()), 1) == 9.3
    assert round(sum(back.values()), 1) == 20.4


def test_a_floor_is_the_slower_of_its_two_ceilings() -> None:
    work = roofline.Work("w", flops=3e9, bytes_moved=8e6)
    assert work.floor_ms(roofline.Ceilings(1.0, 1e9)) == pytest.approx(3.0)
    assert work.floor_ms(roofline.Ceilings(1e9, 2.0)) == pytest.approx(4.0)


def test_newton_schulz_has_the_same_floor_for_a_matrix_and_its_transpose() -> None:
    def muon(*shape: int) -> roofline.Work:
        pieces = roofline.optimizer([shape], 0, TRAIN, 2, average=False)
        assert "average" not in pieces
        return pieces["Muon"][0]

    assert muon(3, 8, 20) == muon(3, 20, 8)
    assert muon(8, 8).flops == 5 * 4 * 8**3
    assert muon(3, 8, 8).flops == 3 * muon(8, 8).flops


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

        def spoiled(*arguments, calls=calls, name=name, factor=factor):
            found = honest(*arguments)
            if next(calls) == 2:  # ours, after the exact and the plain one
                found[name] = found[name] * factor
            return found

        monkeypatch.setattr(step_gate, "results", spoiled)
        assert str(step_gate.wrong(model, model, x, y)).startswith(name)


def test_times_are_those_of_the_forward_and_of_the_backward(model: GPT) -> None:
    x, y = batch()
    calls: list[object] = []

    def watch(work) -> float:
        calls.append(work)
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
    with pytest.raises(SystemExit):
        step.main(["--recipe", "small", "--device", "cpu", "--only", "whole,half"])
    assert "'half' is no section: they are whole,parts,update,kernels" in capsys.readouterr().err


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


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train_gpt.py"
    path.write_text(text)
    return path


def test_a_record_script_is_timed_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, PLAIN_SCRIPT)
    step.main(
        ["--recipe", "small", "--device", "cpu", "--rounds", "1", "--json", "--only", "whole", "--upstream", str(path)]
    )
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1])["upstream"]
    assert found["file"] == "train_gpt.py"
    assert found["theirs"]["median"] > 0
    assert found["ratio"] is None  # three times a loss of another function
    assert any("GPT(loss_scale): unknown here; the script's own value, 3.0" in line for line in found["notes"])
    assert any("GPT(later_idea): unknown here; the constructor's default, 0.5" in line for line in found["notes"])
    assert any("it is another function, so there is no ratio" in line for line in found["notes"])
    assert "upstream: GPT(loss_scale)" in said.err


def test_a_script_that_computes_the_same_gets_a_ratio(
    tmp_path: Path, model: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It has the names of banks, not the public ones, so its weights are made equal here.
    head = f"from golf_fast.config import ModelConfig\nCONFIG = {SMALL!r}\n"
    path = script(tmp_path, head + SAME_SCRIPT)

    def copy(ours: GPT, theirs: torch.nn.Module) -> list[str]:
        theirs.load_state_dict(ours.state_dict())
        return []

    monkeypatch.setattr(record_script, "_copy_weights", copy)
    made = measure.MicroStep(small(), 48, torch.device("cpu"), 1)
    found = next(made.upstream(path))["upstream"]
    assert found["losses"][0] == pytest.approx(found["losses"][1])
    assert found["ratio"] > 0
    assert found["notes"] == []

    # A model of other weights has about the same loss, which proves nothing.
    monkeypatch.setattr(record_script, "_copy_weights", lambda ours, theirs: copy(ours, theirs) or ["novelty"])
    made = measure.MicroStep(small(), 48, torch.device("cpu"), 1)
    found = next(made.upstream(path))["upstream"]
    assert found["losses"][0] == pytest.approx(found["losses"][1])
    assert found["ratio"] is None


def test_weights_go_over_by_public_names_and_other_zeros_are_filled(tmp_path: Path, model: GPT) -> None:
    path = script(tmp_path, PLAIN_SCRIPT)
    built = record_script.build(record_script.load(path), model, torch.device("cpu"), torch.float32, path)
    own = dict(built.model.named_parameters())
    assert torch.equal(own["tok_emb.weight"], model.tok_emb)
    assert bool(own["out"].any(1).all())
    assert any("parameters are in one of the two models alone, such as out" in line for line in built.notes)
    assert not built.same_weights


def test_a_script_keeps_its_own_mixture_of_dtypes(tmp_path: Path, model: GPT) -> None:
    path = script(
        tmp_path,
        """
import torch
from torch import nn
class CastedLinear(nn.Linear): pass
def restore_low_dim_params_to_fp32(module): module.gain.data = module.gain.data.float()
class GPT(nn.Module):
    def __init__(self, model_dim):
        super().__init__()
        self.proj, self.table = CastedLinear(model_dim, 4), nn.Embedding(3, model_dim)
        self.gain = nn.Parameter(torch.ones(model_dim))
""",
    )
    built = record_script.build(record_script.load(path), model, torch.device("cpu"), torch.bfloat16, path)
    dtypes = {name: parameter.dtype for name, parameter in built.model.named_parameters()}
    assert dtypes == {
        "gain": torch.float32,
        "proj.weight": torch.float32,
        "proj.bias": torch.float32,
        "table.weight": torch.bfloat16,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "ModuleNotFoundError while it was loaded: No module named 'no_such_package'"),
        ("raise SystemExit('usage')", "SystemExit while it was loaded: usage"),
        ("def f(:", "SyntaxError while it was loaded"),
        ("x = 1", "it has no class GPT"),
        ("class GPT:\n    def __init__(self, vocab_size, novelty): pass", "GPT needs novelty, which is neither"),
        ("class GPT:\n    def __init__(self): 1 / 0", r"GPT\(...\) fails: ZeroDivisionError"),
        ("from torch import nn\nclass GPT(nn.Module): pass", "a step fails: NotImplementedError"),
    ],
)
def test_a_script_that_cannot_be_used_is_one_line(tmp_path: Path, model: GPT, text: str, message: str) -> None:
    path = script(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        next(measure.MicroStep(small(), 48, torch.device("cpu"), 1).upstream(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if "while it was loaded" in message:
        assert record_script.MODULE_NAME not in sys.modules or sys.modules[record_script.MODULE_NAME].GPT
