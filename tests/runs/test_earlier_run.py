"""A run directory that an earlier version left, `earlier`, can still be read, scored, reported and replayed."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from golf_fast.config import DataConfig
from golf_fast.console import exit_with
from golf_fast.data import prepare
from golf_fast.pipeline.documents import find_documents
from golf_fast.report import write_html
from golf_fast.report.__main__ import _documents as documents_of_shards
from golf_fast.report.compare.comparison import compare
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.score.__main__ import main
from golf_fast.train.schedule import ReplayedSchedule, make_schedule


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy; its text and shards lie where its configuration says, seen from the working directory."""
    shutil.copytree(Path(__file__).parent / "earlier", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / "run"


def test_it_is_read(earlier: Path) -> None:
    run = FinishedRun(earlier)
    result = run.result()
    assert run.config.recipe == result.recipe == "tiny"
    assert run.settings.origins["model.dim"] == "command line"
    losses = run.token_losses()
    assert losses.shape == (result.val_tokens,)
    assert losses.sum(dtype=np.float64) / np.log(2) / result.val_bytes == pytest.approx(result.val_bpb, rel=1e-12)
    assert run.schedule().steps == result.steps == 4
    assert run.schedule().budget is None
    assert {record["kind"] for record in run.records()} >= {"train", "val", "stage", "compression", "tensor"}


@pytest.mark.parametrize("ttt", ["chunked", "off"])
def test_it_is_scored(
    earlier: Path, ttt: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["score", str(earlier), "--device", "cpu", "--ttt", ttt])
    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    assert stop.value.code == 0
    printed = capsys.readouterr().out.splitlines()[-1].split()
    result = FinishedRun(earlier).result()
    assert printed[1:3] == [str(result.val_tokens), str(result.val_bytes)]
    expected = result.val_bpb if ttt == "chunked" else result.bpb_without_ttt
    assert float(printed[4]) == pytest.approx(expected, abs=2e-4)


def test_it_is_reported(earlier: Path) -> None:
    page = write_html(earlier).read_text()
    assert page.count("<svg") == 6, "it says nothing of the parts of its artifact, and not what adapting gained"
    assert "6.9413" in page


def test_it_is_compared_with_a_run_of_other_tokens(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It recorded no documents: they are found in its shards. The last is cut elsewhere in the other's tokens."""
    data = DataConfig(text=Path("text.jsonl"), built=Path("other_built"))
    dataset = prepare(data, vocab_size=320, has_gpu=False)
    validation = dataset.validation(FinishedRun(earlier).config.score.window)
    losses = np.ones(validation.targets, np.float32)
    other = RunPaths(Path("other"))
    other.folder.mkdir()
    shutil.copy(RunPaths(earlier).config, other.config)
    losses.tofile(other.token_losses)
    find_documents(validation, losses, dataset.tokenizer()).write(other.documents)
    found = compare([earlier, other.folder], documents_of_shards)
    (difference,) = found.differences
    count, scored = len(FinishedRun(other.folder).documents().bytes), FinishedRun(earlier).result().val_bytes
    assert difference.documents == count - 1
    assert found.notes[0].startswith("other against run: the same text in other tokens")
    assert f"against {scored:,} bytes of it scored" in found.notes[0]


def test_it_is_replayed(earlier: Path) -> None:
    run = FinishedRun(earlier)
    assert isinstance(make_schedule(run.config.train, run.schedule()), ReplayedSchedule)
