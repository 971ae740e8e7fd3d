"""The doctor tells what is there, and what is not there or broken, without an error of its own."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from golf_fast.config import DataConfig
from golf_fast.data.shards import write_shard
from golf_fast.doctor import Finding, examine, probes
from golf_fast.ops import backends


def found() -> dict[str, Finding]:
    findings = examine()
    assert len({finding.what for finding in findings}) == len(findings)
    return {finding.what: finding for finding in findings}


def printed(*arguments: str, without: tuple[str, ...] = ()) -> str:
    """What the program prints where some modules cannot be imported."""
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({without!r}))\n"
        "runpy.run_module('golf_fast.doctor', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_a_working_machine() -> None:
    findings = found()
    assert findings["python"].found == ".".join(map(str, sys.version_info[:3]))
    assert findings["torch"].found == torch.__version__
    assert findings["device"].found in {"cpu", "cuda:0"}
    assert findings["compute dtype"].found in {"bfloat16", "float32"}
    assert {f"op {op}" for op in backends.registered()} <= set(findings)
    assert {"op bitpack", "op rans", "op trellis"} <= set(findings)
    assert not [finding for finding in findings.values() if finding.found == "cannot be told"]


@pytest.mark.parametrize(
    "without",
    [("torch",), ("torch", "numpy", "rich", "matplotlib", "tyro"), ("golf_fast._C", "triton", "sentencepiece")],
)
def test_a_part_that_is_missing_leaves_the_others(without: tuple[str, ...]) -> None:
    lines = printed(without=without).splitlines()
    whats = [line.split("  ")[0] for line in lines]
    assert {"python", "torch", "matplotlib", "golf_fast._C"} <= set(whats)
    if "torch" in without:
        assert any(line.startswith("cpu ") and "cannot be told" in line for line in lines)
    if "golf_fast._C" in without:
        line = lines[whats.index("golf_fast._C")]
        assert "not there" in line
        assert "pip install" in line
        assert "plain" in lines[whats.index("op bitpack")]
        assert "numpy" in lines[whats.index("op rans")]


def test_what_was_found_before_an_error_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken():
        yield Finding("first", "there")
        raise OSError("of two\nlines")

    monkeypatch.setattr(probes, "PROBES", {"part": broken})
    assert examine() == [Finding("first", "there"), Finding("part", "cannot be told", "OSError: of two lines")]


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    had = SimpleNamespace(name="H100", major=9, minor=0, total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: had)
    assert [finding[:2] for finding in probes._gpus()] == [("gpu 0", "H100"), ("gpu 1", "H100")]
    assert next(probes._gpus()).why.startswith("sm_90, 81,920 MiB, torch is built ")


def test_an_impossible_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "relu2_mlp=nothing")
    backends.forget()
    try:
        findings = found()
    finally:
        backends.forget()
    assert findings["op relu2_mlp"].found == "cannot run"
    assert "relu2_mlp=nothing" in findings["op relu2_mlp"].why
    assert findings["op qk_norm_rope"].found != "cannot run"


def test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found()["shards"].found == "none"
    shards = DataConfig().shards
    for name, count in (("train_000000", 5), ("train_000001", 2000), ("val_000000", 7)):
        write_shard(shards / f"fineweb_{name}.bin", np.zeros(count, dtype=np.uint16))
    (DataConfig().built / "some-text").mkdir(parents=True)
    (DataConfig().built / "some-text" / "manifest.json").touch()
    findings = found()
    assert findings["train shards"][1:] == ("2", f"2,005 tokens in {shards}")
    assert findings["val shards"].found == "1"
    assert findings["built from text"][1:] == ("1", "some-text")
    (shards / "fineweb_val_000000.bin").write_bytes(b"short")
    assert "fineweb_val_000000.bin" in found()["data"].why


def test_help() -> None:
    assert "why" in printed("--help")
