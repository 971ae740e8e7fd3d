"""Runs beside one another: what differs, from what they left, in lines, as a page and as JSON."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.chromium import BINARY, chromium
from helpers.left_behind import RESULT, SIZES, STARTS, TARGETS, leave

from golf_fast.errors import InputError
from golf_fast.report import __main__ as command
from golf_fast.report.compare import show
from golf_fast.report.compare.comparison import Comparison, compare
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.runs.documents import Documents


def recorded(run: FinishedRun) -> Documents:
    raise AssertionError("all runs here recorded their documents")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs that differ in a learning rate; the second is better by 0.5 nats a token in its second document."""
    folders = [
        leave(tmp_path / "first"),
        leave(tmp_path / "second", replace(RESULT, val_bpb=1.2, seed=2, file_hashes={"a.golf": "0"})),
    ]
    paths = RunPaths(folders[1])
    config = json.loads(paths.config.read_text())
    config["config"]["train"]["matrix_lr"] = 0.04
    paths.config.write_text(json.dumps(config))
    losses = np.fromfile(paths.token_losses, "<f4")
    losses[STARTS[1] : STARTS[2]] -= 0.5
    losses.tofile(paths.token_losses)
    return folders


def test_only_what_differs_is_listed(runs: list[Path]) -> None:
    found = compare(runs, recorded)
    assert {row.name: row.values for row in found.settings} == {"train.matrix_lr": [0.02, 0.04]}
    assert {row.name: row.values for row in found.results} == {"seed": [1, 2], "val_bpb": [1.23456, 1.2]}


def test_the_difference_is_that_of_the_losses(runs: list[Path]) -> None:
    (difference,) = compare(runs, recorded).differences
    assert difference.bpb == pytest.approx(-0.5 * (STARTS[2] - STARTS[1]) / sum(SIZES) / math.log(2), rel=1e-5)
    assert difference.documents == 4
    assert difference.low is not None
    assert difference.low < difference.bpb


def test_losses_are_read_in_pieces(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compare(runs, recorded)
    for size in (1, 2000, 10_000):
        monkeypatch.setattr("golf_fast.runs.finished._TOKENS_AT_A_TIME", size)
        assert compare(runs, recorded) == whole


def in_other_tokens(run: Path, **change: Any) -> None:
    """Exchange what a run recorded of its documents as if each token were two, each with half of its loss."""
    paths = RunPaths(run)
    held = json.loads(paths.documents.read_text())
    losses = np.repeat(np.fromfile(paths.token_losses, "<f4") / 2, 2)
    told = {"tokens_sha256": "f" * 64, "targets": 2 * TARGETS, "starts": [2 * start for start in STARTS], "shown": {}}
    paths.documents.write_text(json.dumps(held | told | change))
    losses.tofile(paths.token_losses)


def test_the_same_text_in_other_tokens_is_compared_by_its_bytes(runs: list[Path]) -> None:
    same = compare(runs, recorded)
    assert (same.notes, same.token_bytes) == ([], [])
    in_other_tokens(runs[1])
    found = compare(runs, recorded)
    assert found.differences[0].bpb == pytest.approx(same.differences[0].bpb, rel=1e-6)
    assert (found.differences[0].documents, found.differences[0].bytes) == (4, sum(SIZES))
    assert found.token_bytes == [sum(SIZES) / TARGETS, sum(SIZES) / TARGETS / 2]
    assert found.notes == [
        "second against first: the same text in other tokens (12,000 against 6,000), the same bytes of it scored;"
        " compared over 4 of 4 documents, 15,300 bytes"
    ]


def test_losses_of_a_run_that_was_cut_short_are_told_by_the_bytes_of_one_with_its_data(runs: list[Path]) -> None:
    in_other_tokens(runs[1])
    early, unlike = leave(runs[0].parent / "early"), leave(runs[0].parent / "unlike")
    for run in (early, unlike):
        for path in (RunPaths(run).token_losses, RunPaths(run).documents, RunPaths(run).result):
            path.unlink()
    for run, text in zip([*runs, early, unlike], ("a.txt", "b.txt", "a.txt", "c.txt"), strict=True):
        path = RunPaths(run).config
        held = json.loads(path.read_text())
        held["config"]["data"]["text"] = text
        path.write_text(json.dumps(held))
    rate = sum(SIZES) / TARGETS
    assert compare([*runs, early, unlike], recorded).token_bytes == [rate, rate / 2, rate, None]


def test_a_document_that_is_cut_elsewhere_is_left_out(runs: list[Path]) -> None:
    """The difference is that of the documents before it: 0.5 nats a token in the second of three."""
    in_other_tokens(runs[1], bytes=[*SIZES[:3], 3990], texts=["a", "b", "c", "other"])
    found = compare(runs, recorded)
    (difference,) = found.differences
    assert difference.bpb == pytest.approx(-0.5 * (STARTS[2] - STARTS[1]) / sum(SIZES[:3]) / math.log(2), rel=1e-5)
    assert (difference.documents, difference.bytes) == (3, 11_300)
    told = found.as_json()["differences"][0]
    assert (told["bytes"], told["same_by"], told["scored_bytes"]) == (11_300, "text", (15_300, 15_290))
    for shown in (show.lines(found), show.page(found)):
        assert "15,290 against 15,300 bytes of it scored; compared over 3 of 4 documents, 11,300 bytes, the" in shown
        assert "paired bootstrap over 3 documents" in shown


def test_of_other_tokens_nothing_is_drawn_by_the_token(runs: list[Path]) -> None:
    in_other_tokens(runs[1])
    page = show.page(compare(runs, recorded))
    assert page.count("<svg") == 3
    assert "What adapting gained" not in page
    assert "nats a token" not in page
    assert "Training loss at the end, in bits per byte" in page


def test_another_text_is_refused_in_a_line(runs: list[Path]) -> None:
    in_other_tokens(runs[1], texts=["a", "x", "y", "z"])
    with pytest.raises(
        InputError, match=r"^second: was scored on another text than first, as far as is known: 1 of 3 documents"
    ) as error:
        compare(runs, recorded)
    assert "\n" not in str(error.value)


def test_hashes_that_a_run_did_not_record_are_looked_for(runs: list[Path]) -> None:
    """The documents of an earlier version: with its shards they are hashed, without them their bytes must do."""
    in_other_tokens(runs[1], texts=["a", "b", "c", "d"])
    whole = FinishedRun(runs[1]).documents()
    in_file = json.loads(RunPaths(runs[1]).documents.read_text())
    del in_file["texts"]
    RunPaths(runs[1]).documents.write_text(json.dumps(in_file))
    found = compare(runs, lambda run: whole)
    assert found.notes[0].endswith("over 4 of 4 documents, 15,300 bytes")

    def lost(run: FinishedRun) -> Documents:
        raise InputError("no shard")

    assert compare(runs, lost).notes[0].endswith("only the bytes of each document say that the text is the same")


def test_a_run_that_ended_early_leaves_the_others_compared(runs: list[Path], tmp_path: Path) -> None:
    early = leave(tmp_path / "early")
    for path in (RunPaths(early).token_losses, RunPaths(early).documents):
        path.unlink()
    found = compare([*runs, early], recorded)
    assert [each.run for each in found.differences] == ["second"]
    assert found.token_bytes == []
    assert found.without == "there is no interval: early left no loss of each token"


def test_what_cannot_be_compared_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 run directory is named: at least 2"):
        compare(runs[:1], recorded)
    with pytest.raises(InputError, match="no run directory is named: at least 2"):
        compare([], recorded)
    with pytest.raises(InputError, match="is named twice"):
        compare([runs[0], runs[0]], recorded)
    with pytest.raises(InputError, match=r"nothing: has no config\.json"):
        compare([runs[0], tmp_path / "nothing"], recorded)
    broken = RunPaths(leave(tmp_path / "broken"))
    broken.result.write_text('{"violations": "V1", "val_bpb": "1", "seed": [1]}')
    assert compare([runs[0], broken.folder], recorded).reached[1].cells == [
        "broken",
        "-",
        "not known",
        "-",
        "-",
        "-",
        "tiny",
    ]
    broken.config.write_text('{"config": 3}')
    with pytest.raises(InputError, match=r"config\.json: is not the configuration of a run"):
        compare([runs[0], broken.folder], recorded)
    RunPaths(runs[1]).token_losses.write_bytes(bytes(8))
    with pytest.raises(InputError, match="has 8 bytes; 6000 losses have 4 each"):
        compare(runs, recorded)
    np.full(TARGETS, np.nan, "<f4").tofile(RunPaths(runs[1]).token_losses)
    with pytest.raises(InputError, match="no finite number"):
        compare(runs, recorded)


def test_a_run_that_ended_early_is_compared_as_far_as_it_came(runs: list[Path]) -> None:
    paths = RunPaths(runs[1])
    for path in (paths.token_losses, paths.result, paths.documents):
        path.unlink()
    found = compare(runs, recorded)
    assert found.differences == []
    assert found.without == "there is no interval: second left no loss of each token"
    assert found.without in show.lines(found)
    assert found.without in show.page(found)


def test_what_an_earlier_version_does_not_say_is_no_difference(runs: list[Path], tmp_path: Path) -> None:
    """Nor is what a run without a result does not say; a part that an artifact does not have is one."""
    early, older = leave(tmp_path / "early"), RunPaths(leave(tmp_path / "older")).result
    RunPaths(early).result.unlink()
    held = json.loads(older.read_text())
    del held["resumed"], held["artifact_parts"]["tok_emb"]
    older.write_text(json.dumps(held))
    found = compare([runs[0], early, older.parent], recorded)
    assert [(row.name, row.values) for row in found.results] == [("artifact_parts.tok_emb", [700, None, None])]
    assert [each.verdict for each in found.reached] == ["legal", "no result", "legal"]


def test_what_each_run_reached_is_told_first(runs: list[Path], tmp_path: Path) -> None:
    ends = {
        "illegal": replace(RESULT, violations=["V1"]),
        "early": replace(RESULT, finished=False, val_bpb=None, artifact_bytes=None, not_judged=["it did not finish"]),
        "large": replace(RESULT, artifact_bytes=16_000_000, not_judged=["V9: unknown"]),
    }
    found = compare([*runs, *(leave(tmp_path / name, result) for name, result in ends.items())], recorded)
    assert [each.cells for each in found.reached] == [
        ["first", "1.23456", "legal", "1,000", "40", "1", "tiny"],
        ["second", "1.20000", "legal", "1,000", "40", "2", "tiny"],
        ["illegal", "1.23456", "NOT LEGAL (V1)", "1,000", "40", "1", "tiny"],
        ["early", "-", "not finished", "-", "40", "1", "tiny"],
        ["large", "1.23456", "NOT JUDGED", "16,000,100, too many", "40", "1", "tiny"],
    ]
    assert re.search(r"^illegal +1\.23456 +NOT LEGAL \(V1\) +1,000 +40 +1 +tiny$", show.lines(found), re.M)
    assert "16,000,100, too many" in show.page(found)
    assert found.as_json()["reached"][3]["verdict"] == "not finished"


def test_hashes_and_files_of_many_runs_are_told_in_short(runs: list[Path], tmp_path: Path) -> None:
    shards = [{f"{name}/a.bin": letter * 64, f"{name}/b.bin": "0" * 64} for name, letter in (("x", "a"), ("y", "b"))]
    for run, held, code in zip(runs, shards, ("c", "d"), strict=True):
        replace(RESULT, validation_shards=held, code_hash=code * 64).write(RunPaths(run).result)
    found = compare(runs, recorded)
    lines = show.lines(found).splitlines()
    (row,) = [line.split() for line in lines if line.startswith("validation_shards")]
    assert row == ["validation_shards", "aaaaaaaaaaaa...,", "000000000000...", "bbbbbbbbbbbb...,", "000000000000..."]
    assert ["code_hash", "cccccccccccc...", "dddddddddddd..."] in [line.split() for line in lines]
    assert {row.name for row in found.results} >= {"validation_shards.x/a.bin", "validation_shards.y/b.bin"}


def test_a_run_whose_documents_are_lost_is_compared_but_for_the_interval(runs: list[Path]) -> None:
    RunPaths(runs[1]).documents.unlink()

    def lost(run: FinishedRun) -> Documents:
        raise InputError("no shard")

    found = compare(runs, lost)
    assert found.differences == []
    assert found.without == "there is no interval: second left no documents, and they cannot be found again: no shard"


def test_runs_of_one_name_are_told_apart_by_their_paths(runs: list[Path], tmp_path: Path) -> None:
    other = leave(tmp_path / "elsewhere" / "first")
    assert compare([runs[0], other], recorded).names == [str(runs[0]), str(other)]


def test_lines_and_page_say_the_same(runs: list[Path]) -> None:
    found = compare(runs, recorded)
    lines, page = show.lines(found), show.page(found)
    assert re.search(rf"^second +{re.escape(f'{found.differences[0].bpb:+.5f}')} ", lines, re.M)
    for text in ("train.matrix_lr", "0.04", "paired bootstrap over 4 documents, 10,000 resamples, seed 0"):
        assert text in lines
        assert text in page
    assert "data_fingerprint" not in lines
    assert page.count("<svg") == 4
    assert "<script" not in page


def test_the_command_writes_a_page_or_json(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", "compare", *map(str, runs)])
    command.main()
    assert (tmp_path / "compare.html").read_text() == show.page(compare(runs, recorded))
    assert capsys.readouterr().out == show.lines(compare(runs, recorded)) + "\n\ncompare.html: written\n"
    monkeypatch.setattr(sys, "argv", ["report", "compare", *map(str, runs), "--json"])
    command.main()
    held = json.loads(capsys.readouterr().out)
    assert held["settings"] == {"train.matrix_lr": [0.02, 0.04]}
    assert held["differences"][0]["bpb"] == compare(runs, recorded).differences[0].bpb
    monkeypatch.setattr(sys, "argv", ["report", "page", str(runs[0])])
    command.main()
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_the_page_fits_a_window(runs: list[Path], tmp_path: Path) -> None:
    """Of two runs of the same tokens, and of eight with others."""
    pages = {tmp_path / "two.html": (compare(runs, recorded), 4)}
    in_other_tokens(runs[1])
    more = [leave(tmp_path / f"run-with-a-name-that-is-long-{number}") for number in range(6)]
    pages[tmp_path / "eight.html"] = (compare([*runs, *more], recorded), 3)
    with chromium() as browser:
        for page, (found, plots) in pages.items():
            page.write_text(show.page(found))
            for width in (390, 1280):
                browser.open(page, width)
                assert browser.value("document.documentElement.scrollWidth") <= width
                assert browser.requests == [page.as_uri()]
                sizes = browser.value("[...document.querySelectorAll('svg')].map(plot => plot.clientHeight)")
                assert min(sizes) > 40
                assert len(sizes) == plots


def test_runs_that_differ_by_their_seed_are_a_group(runs: list[Path], tmp_path: Path) -> None:
    """Two seeds of the first setting, three of the second; p by integrating the density of t with 2.88 degrees."""
    scores = {"first": 1.20, "first_b": 1.21, "second": 1.18, "second_b": 1.19, "second_c": 1.17}
    folders = []
    for number, (name, score) in enumerate(scores.items()):
        folders.append(leave(tmp_path / "seeds" / name, replace(RESULT, val_bpb=score)))
        path = RunPaths(folders[-1]).config
        held = json.loads(path.read_text())
        held["config"] |= {"seed": number, "runs_dir": name, "track": [name]}
        held["config"]["train"]["matrix_lr"] = 0.04 if "second" in name else 0.02
        path.write_text(json.dumps(held))
    found = compare(folders, recorded)
    first, second = found.seeds
    assert (first.runs, second.runs) == (["first", "first_b"], ["second", "second_b", "second_c"])
    assert (first.mean, second.mean) == (pytest.approx(1.205), pytest.approx(1.18))
    assert first.p is None
    assert second.p == pytest.approx(0.024708, abs=1e-6)
    assert second.half_width == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-5)
    assert {row.name for row in found.settings} == {"seed", "train.matrix_lr"}
    for text in ("second, second_b, second_c", f"{second.p:.4f}", "Welch"):
        assert text in show.lines(found)
        assert text in show.page(found)
    assert found.as_json()["seeds"][1]["p"] == second.p
    unscored = leave(tmp_path / "unscored", replace(RESULT, val_bpb=None))
    assert compare([*folders, unscored], recorded).seeds == found.seeds, "a run without a score is in no group"
    assert compare(runs, recorded).seeds == [], "one run of each setting is no group"


def test_an_empty_comparison_has_a_page() -> None:
    found = Comparison(["a", "b"], [], [], [], [], [], [], [], "nothing", [], [[], []])
    assert "All are the same." in show.page(found)
    assert show.lines(found) == "settings: all the same\n\nresults: all the same\n\nnothing"
