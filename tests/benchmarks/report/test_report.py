"""Recorded measurements as tables and a plot: what is newest, what is of one run, and what is said of a bad line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from benchmarks.report import command as report
from golf_fast.errors import InputError


def timing(median: float) -> dict[str, float]:
    return {"median": median, "p20": 0.9 * median, "p80": 1.2 * median}


def row(**changes: Any) -> dict[str, Any]:
    """A comparison as `benchmarks.results` writes it."""
    ratio = changes.get("ratio", 2.0)
    return {
        "op": "bitpack",
        "case": "unpack",
        "implementation": "avx2",
        "peer": "memcpy",
        "ours": timing(4.0),
        "theirs": timing(8.0),
        "ratio": ratio,
        "ratio_p20": 0.5 * ratio,
        "ratio_p80": 1.5 * ratio,
        "rounds": 31,
        "gigabytes_per_second": 12.3,
        "teraflops": 0.0,
        "time": "2026-01-01T00:00:00+00:00",
        "device": "Some CPU",
        "device_kind": "cpu",
        "versions": {"torch": "2.13.0", "triton": None},
        "commit": "abc1234",
        "cores": 2,
        "load": 1.5,
    } | changes


def against(ms: float, floor: float) -> dict[str, Any]:
    return {"ms": timing(ms), "floor": floor, "times_floor": ms / floor}


PART = {"name": "attention", "times": 4, "forward": against(6.0, 2.0), "backward": against(10.0, 4.0)}


def step_row(section: str = "whole", run: str = "a1", **changes: Any) -> dict[str, Any]:
    """A line of a measured micro-step, as `benchmarks.step` writes it."""
    sections: dict[str, dict[str, Any]] = {
        "whole": {"micro_step": timing(25.0), "forward": timing(9.0), "backward": timing(16.0)},
        "part": {"part": PART},
        "update": {"update": {"name": "Muon", **against(3.0, 1.5)}},
        "upstream": {},
    }
    step = {
        "op": "step",
        "section": section,
        "run": run,
        "recipe": "seed",
        "tokens": 98304,
        "dtype": "bfloat16",
        "floors": [2.0, 4.0],
        "updates": ["Muon"],
        "projected_devices": 8,
        "wrong": None,
    }
    around = {key: value for key, value in row().items() if key in ("time", "device", "device_kind", "versions")}
    return around | step | sections[section] | changes


def write(folder: Path, *rows: object, name: str = "bitpack.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in rows))
    return path


def said(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    report.main(["--results", str(folder), *flags])
    return capsys.readouterr().out


def cells(text: str, *beginning: str) -> list[str]:
    """The cells of the only table row that begins so."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    (found,) = [found for found in rows if found[: len(beginning)] == list(beginning)]
    return found


def test_a_row_has_its_times_its_rate_and_each_peer_of_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, row(), row(peer="numpy", ratio=30.0, rounds=5, ours=timing(5.0)))
    text = said(tmp_path, capsys)
    assert cells(text, "bitpack") == [
        "bitpack",
        "unpack",
        "avx2",
        "4 (3.6 to 4.8)",
        "12.3 GB/s",
        "memcpy 2.00 x (1.00 to 3.00); numpy 30.00 x (15.00 to 45.00)",
    ]
    assert "### Some CPU" in text
    assert "Measured: 2026-01-01, commit abc1234, torch 2.13.0, load 1.5 on 2 cores." in text


def test_only_the_newest_run_counts_and_its_peers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = "2026-01-01T10:00:00+00:00", "2026-01-02T09:00:00+00:00"
    write(
        tmp_path,
        row(time=old, peer="gone", ratio=9.0),
        row(time=new, ratio=3.0),
        row(time=new, peer="numpy", ratio=4.0),
        row(time=old, ratio=8.0),
        row(time=old, case="pack", ratio=7.0),
        row(time=old, device="Other CPU", ratio=6.0),
    )
    text = said(tmp_path, capsys)
    assert cells(text, "bitpack", "pack")[-1].startswith("memcpy 7.00 x")
    other, some = text.split("### Some CPU")
    assert cells(some, "bitpack", "unpack")[-1] == "memcpy 3.00 x (1.50 to 4.50); numpy 4.00 x (2.00 to 6.00)"
    assert "memcpy 6.00 x" in other
    assert "gone" not in text
    assert "8.00" not in text


def test_on_a_gpu_rates_are_shares_of_its_ceilings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"device_kind": "cuda", "percent_of_gemm": 75.4, "percent_of_copy": 88.0, "clocks": "1 MHz"}
    write(
        tmp_path,
        row(op="relu2_mlp", case="forward", teraflops=603.0, **shares),
        row(op="qk_norm_rope", case="forward", gigabytes_per_second=2640.0, **shares),
    )
    text = said(tmp_path, capsys)
    assert cells(text, "relu2_mlp")[4] == "603 TFLOP/s, 75 % of a GEMM"
    assert cells(text, "qk_norm_rope")[4] == "2.64e+03 GB/s, 88 % of a copy"
    assert "clocks 1 MHz" in text


def test_a_micro_step_is_a_table_of_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = step_row(run="b2", time="2025-01-01T00:00:00+00:00", micro_step=timing(99.0))
    beside = {"file": "train_gpt.py", "theirs": timing(50.0), "ratio": 2.0, "ratio_p20": 1.9, "ratio_p80": 2.1}
    of_run = [step_row(), step_row("part"), step_row("update"), step_row("upstream", upstream=beside)]
    write(tmp_path, *of_run, old, name="step.jsonl")
    text = said(tmp_path, capsys)
    assert "One micro-step of `seed`, 98,304 tokens, bfloat16: 25 (22.5 to 30) ms." in text
    assert cells(text, "attention") == ["attention", "6", "2", "3.00", "10", "4", "2.50"]
    assert cells(text, "measured as a whole") == ["measured as a whole", "9", "2", "4.50", "16", "4", "4.00"]
    assert cells(text, "update: Muon")[:4] == ["update: Muon", "3", "1.5", "2.00"]
    assert "Projected step of 8 such devices: 28 ms (a projection)." in text
    assert "99" not in text
    assert "train_gpt.py on the same tokens in the same run: 50 (45 to 60) ms, 2.00 x ours (1.90 to 2.10)." in text


def test_a_run_that_was_cut_off_shows_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, step_row(), step_row("part"), name="step.jsonl")
    text = said(tmp_path, capsys)
    assert cells(text, "attention")[1] == "6"
    assert "rojected" not in text


def test_a_time_of_what_is_wrong_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, step_row(wrong="loss is off"), step_row("part", run="c3"), name="step.jsonl")
    assert "micro-step" not in said(tmp_path, capsys)


def test_coders_are_a_table_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    around = {key: value for key, value in row().items() if key in ("time", "device", "device_kind")}
    ideal = {"op": "codec", "coder": "ideal", "weights": "w", "bits": 6, "bits_per_weight": 5.0, "of_zstd": 0.9}
    coded = ideal | {"coder": "rans", "bits_per_weight": 5.1, "encode_mb_s": 74.4, "decode_mb_s": 121.9}
    write(tmp_path, around | coded, around | ideal | {"encode_mb_s": None}, name="codec.jsonl")
    text = said(tmp_path, capsys)
    assert cells(text, "int6", "ideal") == ["int6", "ideal", "5.0000", "0.9000", "", ""]
    assert cells(text, "int6", "rans") == ["int6", "rans", "5.1000", "0.9000", "74.4", "122"]
    assert text.index("ideal") < text.index("rans")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "it is no object"),
        (row(device=3), "device is 3, not a text"),
        (row(peer=None), "peer is None, not a text"),
        (row(op=["bitpack"]), r"op is \['bitpack'\], not a text"),
        (row(ratio=0.0) | {"ratio_p20": 1.0}, "ratio is 0.0, not a positive number"),
        (row() | {"ratio_p80": float("nan")}, "holds NaN, which is no number in JSON"),
        (row(ours={"median": 1.0}), "ours is .*, not three positive numbers"),
        (row(theirs=timing(-1.0)), "theirs is .*, not three positive numbers"),
        (step_row(tokens="many"), "tokens is 'many', not a positive number"),
        (step_row("part", part=3), "forward of a part: it is no object"),
        (step_row("update", update={"ms": timing(1.0)}), "the update: floor is None, not a positive number"),
        (step_row() | {"section": "half"}, "section is 'half', not whole, part"),
        (step_row(floors=[1.0]), r"floors is \[1.0\], not two positive numbers"),
        (step_row(micro_step=None), "micro_step is None, not three positive numbers"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path, row(), "", line)
    with pytest.raises(InputError, match=f"line 3.*{message}") as caught:
        report.main(["--results", str(tmp_path)])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_results_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    assert said(tmp_path, capsys) == f"no results in {tmp_path}: `python -m benchmarks` measures\n"
    monkeypatch.setenv(results.VARIABLE, str(tmp_path / "not yet"))
    report.main([])
    assert capsys.readouterr().out.startswith("no results in")


def test_wrong_flags_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--results .*absent: it is no folder"):
        report.main(["--results", str(tmp_path / "absent")])
    with pytest.raises(InputError, match=r"--plot plot.png: it must end in \.svg"):
        report.main(["--plot", "plot.png"])
    write(tmp_path, step_row(), name="step.jsonl")
    with pytest.raises(InputError, match="nothing to draw"):
        report.main(["--results", str(tmp_path), "--plot", str(tmp_path / "plot.svg")])


def test_the_plot_shows_every_case_and_peer_and_is_reproducible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, row(), row(peer="numpy", ratio=30.0), row(case="pack", device="Other CPU"))
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for path in (first, second):
        said(tmp_path, capsys, "--plot", str(path))
    assert first.read_bytes() == second.read_bytes()
    assert ElementTree.parse(first).getroot().tag.endswith("svg")
    comments = first.read_text()  # letters are drawn as shapes, each word's with a comment
    for text in ("Some CPU", "Other CPU", "bitpack: unpack (avx2)", "bitpack: pack (avx2)", "memcpy", "numpy"):
        assert f"<!-- {text} -->" in comments


def test_a_bar_in_a_name_does_not_end_its_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, row(case="a|b"))
    assert "| a\\|b |" in said(tmp_path, capsys)


def test_the_results_of_the_checkout_can_be_read() -> None:
    from benchmarks.report import rows as report_rows

    assert isinstance(report_rows.read(results.folder()), list)
