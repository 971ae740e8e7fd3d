"""The benchmark of quantizers on a run as small as they get."""

import json
from pathlib import Path

import pytest
from helpers.bare_run import leave_out_the_rest
from helpers.small_run import text
from helpers.whole_run import SMALL, exit_code

from benchmarks import quantizers, results
from benchmarks.report.rows import read
from golf_fast.config import CompressConfig


def test_every_way_is_another_one_and_legal() -> None:
    ways = dict(quantizers.ways(CompressConfig(calibration_tokens=1)))
    assert len({str(config) for config in ways.values()}) == len(ways)
    assert {config.codec for config in ways.values()} == {"rans"}
    assert {config.quantizer for config in ways.values()} == {"absmax", "sigma", "gptq", "trellis", "gptq_trellis"}


def test_on_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(results.VARIABLE, str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    leave_out_the_rest(monkeypatch.setattr)
    assert exit_code(monkeypatch, [*SMALL, f"--data.text={text(tmp_path)}", "--run-id=small", "--score.ttt=off"]) == 0
    capsys.readouterr()
    quantizers.main([str(tmp_path / "runs" / "small"), "--tokens", "500", "--windows", "4"])
    rows = read(tmp_path / "results")
    names = [name for name, _ in quantizers.ways(CompressConfig(calibration_tokens=1))]
    assert [row["way"] for row in rows] == names
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    sizes = {row["way"]: row["bytes"] for row in rows}
    assert sizes["sigma, int6, embedding int8, clip 16"] < sizes["sigma, int6, embedding int8, clip 6"]
    before = json.loads((tmp_path / "runs" / "small" / "result.json").read_text())["bpb_before_compression"]
    assert abs(rows[0]["bpb_before"] - before) < 1
