"""Runs of several seeds: what is asked for, what is left when one of them fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.left_behind import RESULT, leave

from golf_fast.command_line import Parsed
from golf_fast.errors import InputError, StoppedError
from golf_fast.pipeline import seeds
from golf_fast.recipes import RECIPES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tiny", "--seeds", "42", "1337", "--device=cpu"], ([42, 1337], ["tiny", "--device=cpu"])),
        (["tiny", "--seeds=1,2"], ([1, 2], ["tiny"])),
        (["tiny", "--seed=3"], None),
    ],
)
def test_the_seeds_are_taken_out(arguments: list[str], expected: object) -> None:
    assert seeds.asked(arguments) == expected


@pytest.mark.parametrize("words", [[], ["x"], ["1", "1"], ["1.5"]])
def test_what_are_no_seeds_is_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match="--seeds"):
        seeds.asked(["tiny", "--seeds", *words])


def each(folder: Path, monkeypatch: pytest.MonkeyPatch, errors: dict[int, Exception]) -> list[int]:
    """Seeds 1 to 3 with runs that are left at once, or end in an error; which were begun."""
    begun: list[int] = []

    def made(parsed: Parsed, *others: object) -> Path:
        seed = parsed.config.seed
        begun.append(seed)
        if seed in errors:
            raise errors[seed]
        leave(folder / parsed.config.run_id, replace(RESULT, seed=seed, val_bpb=1.0 + seed))
        return folder / parsed.config.run_id

    def parse(seed: int) -> Parsed:
        return Parsed(replace(RECIPES["tiny"](), seed=seed, run_id="x", runs_dir=folder, device="cpu"), {}, [])

    monkeypatch.setattr(seeds, "execute_among", made)
    try:
        seeds.execute_each([1, 2, 3], parse)
    finally:
        summary, *more = folder.glob("seeds-*.json")
        assert not more
        (folder / "summary.json").write_bytes(summary.read_bytes())
    return begun


def test_a_summary_has_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert each(tmp_path, monkeypatch, {}) == [1, 2, 3]
    held = json.loads((tmp_path / "summary.json").read_text())
    assert [run["seed"] for run in held["runs"]] == [1, 2, 3]
    assert [Path(run["run"]).name for run in held["runs"]] == ["x-seed1", "x-seed2", "x-seed3"]
    assert (held["mean_bpb"], held["std_bpb"]) == (3.0, 1.0)
    assert "mean of 3: 3.00000 ± 1.00000 bits per byte" in capsys.readouterr().out


@pytest.mark.parametrize("error", [InputError("the loss is nan"), RuntimeError("out of memory")])
def test_a_run_that_fails_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(InputError, match=f"seed 2: {error}; the other 2 runs are whole"):
        each(tmp_path, monkeypatch, {2: error})
    held = json.loads((tmp_path / "summary.json").read_text())
    assert [run.get("error") for run in held["runs"]] == [None, str(error), None]
    assert (tmp_path / "x-seed3" / "result.json").exists()


def test_ranks_that_lose_each_other_end_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoppedError):
        each(tmp_path, monkeypatch, {2: StoppedError("rank 1 is gone")})
    assert [run["seed"] for run in json.loads((tmp_path / "summary.json").read_text())["runs"]] == [1]
