"""What is planned of work that was measured, and what other ranks say they gave up."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.small_scoring import small_config, small_gpt, some_tokens

from golf_fast.distributed import Ranks
from golf_fast.score import Ledger
from golf_fast.score.examiner import Examiner
from golf_fast.score.pace import Pace
from golf_fast.score.rows import TokenRows, of_training


def test_the_first_measurement_is_a_bound_until_the_second() -> None:
    now = [0.0]
    pace = Pace(100.0, clock=lambda: now[0])

    def works(seconds: float, work: float) -> None:
        with pace.measured("a", work):
            now[0] += seconds

    assert pace.fits(a=1e9)
    works(41.0, 1)
    assert not pace.known("a")
    assert pace.fits(a=1)
    assert not pace.fits(a=2)
    works(1.0, 1)
    assert pace.known("a")
    assert pace.fits(a=53)  # 42 + 53 of 95
    assert not pace.fits(a=54)


def test_a_topic_is_told_once() -> None:
    said: list[str] = []
    pace = Pace(say=said.append)
    for what in ("one", "two"):
        pace.say(what, "numbers")
    pace.say("three")
    pace.say("three")
    assert said == pace.news() == ["one", "three"]
    assert pace.news() == []


@pytest.mark.parametrize("rank", [0, 1])
def test_what_another_rank_gave_up_is_said(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, said = some_tokens(40), list[str]()
    own, sent = Pace(say=said.append), list[bytes]()

    def gather(_: Ranks, data: bytes) -> list[bytes]:
        sent.append(data)
        other = json.dumps([[], ["it stopped"] if len(sent) == 1 else []]).encode()
        return [data, other] if rank == 0 else [other, data]

    monkeypatch.setattr(Ranks, "gather_bytes", gather)
    ranks = Ranks(rank, 2, torch.device("cpu"))
    rows = TokenRows(tokens, ranks.device)
    examiner = Examiner(small_gpt(layers=2), rows, small_config(ttt="documents"), ranks, Ledger(), pace=own)  # type: ignore[arg-type]
    own.say("this one too")
    examiner.settle()
    examiner.settle()
    assert said == ["this one too", f"rank {1 - rank}: it stopped"]
    assert [json.loads(text)[1] for text in sent] == [["this one too"], []]


def test_windows_are_measured_as_they_are_scored_and_for_all_ranks() -> None:
    now, shapes = [0.0], []
    config = small_config(ttt="held_out", batch_windows=3)
    model = small_gpt(layers=2)

    def token_losses(tokens: torch.Tensor, targets: torch.Tensor, _: None, first: int = 0) -> torch.Tensor:
        now[0] += 40.0 if not shapes else 6.0
        shapes.append((tuple(tokens.shape), first, torch.is_inference_mode_enabled()))
        return targets[:, first:].float()

    model.token_losses = token_losses  # type: ignore[method-assign, assignment]
    ranks = Ranks(0, 4, torch.device("cpu"))
    pace = Pace(100.0, ranks, clock=lambda: now[0])
    examiner = Examiner(model, TokenRows(some_tokens(40), ranks.device), config, ranks, Ledger(), pace=pace)
    rows = of_training(np.asarray(some_tokens(25)), config.window, ranks.device)
    assert rows.count == 2
    examiner.measure_windows(rows)
    assert shapes == [((3, 12), 7, True)] * 2
    assert pace.fits(window=98)  # half a second each, of 49 that are left
    assert not pace.fits(window=99)
