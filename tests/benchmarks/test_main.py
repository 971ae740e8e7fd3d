"""`python -m benchmarks`: what it imports, where its rows go, and ours without a peer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import results
from benchmarks.ops import registry
from benchmarks.ops.registry import Case
from benchmarks.report import command as report
from golf_fast.errors import InputError

ROOT = Path(__file__).parents[2]
FEW_PACKAGES = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import benchmarks.__main__, benchmarks.gpu.command, benchmarks.step.command, benchmarks.tune.command
import benchmarks.compile_ahead, golf_fast.train.optimizer
from benchmarks.ops import registry
for op in registry.OPS:
    registry.load(op)
print(*sorted({{"triton"}} & set(sys.modules)))
"""
ABSENT = {
    "zstandard", "tyro", "docstring_parser", "typeguard", "rich", "matplotlib", "sentencepiece", "safetensors",
    "msgspec", "torchao", "brotli",
}  # fmt: skip


def test_kernels_are_measured_with_torch_triton_and_numpy_only() -> None:
    program = FEW_PACKAGES.format(absent=ABSENT)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Where kernels are interpreted, triton must wait for a variable.
    assert done.stdout.strip() == ""


@pytest.fixture
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> object:
        return torch.ones(100).sum()

    case = Case("newton_schulz", "a sum", "x", work, {"slower": work}, lambda: None, bytes_moved=400)
    monkeypatch.setattr(registry.load("newton_schulz"), "cases", lambda device_kind: iter([case]))


def test_ours_is_timed_without_a_peer(one_case: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "there"
    arguments = ["--op", "newton_schulz", "--device", "cpu", "--peer", "none", "--results", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(results.VARIABLE, "")
        command.measure_ops(arguments)
        capsys.readouterr()
        command.measure_ops([*arguments[:-4], "--results", str(folder)])
        rows = [json.loads(line) for line in (folder / "newton_schulz.jsonl").read_text().splitlines()]
        assert [row["peer"] for row in rows] == ["none", "slower"]
        assert rows[0]["ours"]["median"] > 0
        assert rows[0]["theirs"] is rows[0]["ratio"] is None
        capsys.readouterr()
        report.main([])
    table = capsys.readouterr().out
    assert "a sum" in table
    assert "slower" in table
    assert "none" not in table


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="--device is cuda, and torch sees no GPU here"):
        command.measure_ops(["--device", "cuda"])


def test_outside_of_a_checkout_the_commit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert results.commit()  # of this checkout
    monkeypatch.setenv(results.COMMIT, "abc1234")
    assert results.commit() != "abc1234"

    def no_git(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(results.subprocess, "run", no_git)
    assert results.commit() == "abc1234"
    monkeypatch.delenv(results.COMMIT)
    assert results.commit() == ""
