"""A record script beside ours: how it is built, and when its time is a ratio."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_step import SMALL, small

from benchmarks.step import command as step
from benchmarks.step import measure, record_script
from golf_fast.errors import InputError
from golf_fast.model import GPT

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
