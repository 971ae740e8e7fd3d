"""What the ledger refuses, and what it writes."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_scoring import recorded

from golf_fast.errors import InputError
from golf_fast.score import Ledger, LegalityError, digest
from golf_fast.score.ledger import read
from golf_fast.score.rows import TokenRows

TOKENS = (np.arange(31) * 2111 % 65536).astype(np.uint16)  # 30 targets, ids on both sides of 32768


def begun(path: Path | None = None) -> Ledger:
    ledger = Ledger(path)
    ledger.begin(TokenRows(TOKENS, torch.device("cpu")))
    return ledger


def test_rows_are_handed_out_once_all_their_targets_are_scored() -> None:
    ledger = begun()
    ledger.scored(0, 13)
    rows = ledger.rows_for_training(1, 3, 4)
    inputs, targets, _ = rows.batch(1, 3)
    assert inputs.tolist() == TOKENS[5:13].reshape(2, 4).tolist()
    assert targets.tolist() == TOKENS[6:14].reshape(2, 4).tolist()
    assert inputs.dtype == targets.dtype == torch.int64
    with pytest.raises(LegalityError, match="targets 2 to 14 are asked for training, but only 13 are scored"):
        ledger.rows_for_training(2, 3, 4)
    assert ledger.legal
    assert ledger.adapted


def test_no_row_beyond_those_handed_out_can_be_read() -> None:
    ledger = begun()
    ledger.scored(0, 12)
    with pytest.raises(AssertionError, match="rows 2 to 4 of 3"):
        ledger.rows_for_training(0, 3, 4).batch(2, 4)


def test_a_target_is_scored_once_and_from_left_to_right() -> None:
    ledger = begun()
    ledger.scored(0, 10)
    for start, stop in ((9, 12), (0, 10), (11, 12), (10, 10), (10, 31)):
        with pytest.raises(LegalityError):
            ledger.scored(start, stop)
    ledger.scored(10, 30)
    assert ledger.complete
    ledger.end()


def test_nothing_is_trained_on_after_the_last_target() -> None:
    ledger = begun()
    ledger.scored(0, 30)
    with pytest.raises(LegalityError, match="after the last target"):
        ledger.rows_for_training(0, 1, 4)


def test_a_pass_ends_only_when_all_is_scored_and_has_a_ledger_of_its_own() -> None:
    ledger = begun()
    ledger.scored(0, 29)
    with pytest.raises(LegalityError, match="29 of 30"):
        ledger.end()
    with pytest.raises(LegalityError, match="its own"):
        ledger.begin(TokenRows(TOKENS, torch.device("cpu")))
    with pytest.raises(LegalityError, match="no tokens yet"):
        Ledger().scored(0, 1)


def test_unscored_rows_are_a_violation_whatever_follows() -> None:
    ledger = begun()
    assert ledger.legal
    ledger.unscored_rows(0, 2, 4)
    ledger.unscored_rows(0, 2, 4)
    ledger.scored(0, 30)
    ledger.end()
    assert not ledger.legal
    assert ledger.violations == ["V1"]


def test_every_event_is_a_line_as_soon_as_it_happens(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    ledger = begun(path)
    expected = [{"event": "begin", "targets": 30}]

    def written() -> list[dict[str, object]]:
        return recorded(path)

    assert written() == expected
    ledger.scored(0, 8)
    expected.append({"event": "score", "start": 0, "stop": 8})
    assert written() == expected
    ledger.rows_for_training(0, 2, 4)
    expected.append({"event": "train", "start": 0, "stop": 8, "window": 4, "scored": True})
    assert written() == expected
    ledger.unscored_rows(8, 1, 4)
    expected.append({"event": "train", "start": 8, "stop": 12, "window": 4, "scored": False})
    ledger.scored(8, 30)
    expected.append({"event": "score", "start": 8, "stop": 30})
    ledger.end()
    expected.append({"event": "end", "targets": 30, "legal": False, "violations": ["V1"]})
    assert written() == expected


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/ledger\.jsonl: cannot be written"):
        Ledger(tmp_path / "file" / "ledger.jsonl")


def test_lines_wait_for_hashes_on_a_device_and_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = begun(path)
    ledger.scored(0, 8, weights=digest.Later([torch.ones(3)]))
    ledger.rows_for_training(0, 2, 4)
    assert len(recorded(path)) == 1
    with pytest.raises(LegalityError, match="only 8 are scored"):  # what may be trained on is known at once
        ledger.rows_for_training(0, 3, 4)
    assert [event["event"] for event in ledger.events] == ["begin", "score", "train"]
    assert ledger.events[1]["weights"] == digest.of_tensors([torch.ones(3)])
    assert read(path) == ledger.events
    for start in range(8, 30):
        ledger.scored(start, start + 1, weights=digest.Later([torch.ones(3)]))
    assert len(recorded(path)) == 3 + 16
    ledger.end()
    assert [event["event"] for event in read(path)] == ["begin", "score", "train", *["score"] * 22, "end"]


def test_reading_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event": "end"}\n')
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            assert read(path) == [{"event": "end"}]
            assert gc.isenabled() is enabled
        finally:
            gc.enable()
    path.write_text("1\n")
    with pytest.raises(InputError):
        read(path)
    assert gc.isenabled()
