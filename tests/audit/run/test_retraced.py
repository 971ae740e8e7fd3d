"""What a ledger names by a hash, and where a sample is taken, cannot be made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.audited_run import change, each, judged, ledger_of, of_stage, rehash, setting, train, write_ledger

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.losses import model_of
from golf_fast.audit.run.replay import Sample, again


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose documents have adapters of their own, two documents side by side."""
    more = ["--score.ttt=documents", "--score.documents.rank=2", "--score.documents.context=32"]
    folder = tmp_path_factory.mktemp("adapted")
    return train(folder, *more, "--score.documents.chunk-tokens=16", "--score.documents.batch=2")


def test_what_the_adapters_were_is_replayed_for_a_group_and_for_all(adapted: Path, tmp_path: Path) -> None:
    for sample in ({"targets": 470}, {"full": True}):
        assert any("scores are those of a replay" in finding.said for finding in judged(adapted, **sample).of("ledger"))
    run = shutil.copytree(adapted, tmp_path / "run")
    last = max(number for number, event in enumerate(ledger_of(run)) if event.get("adapters"))
    events = ledger_of(run)
    events[last]["adapters"] = "0" * 16
    write_ledger(run, events)
    rehash(run)
    for sample in ({"targets": 470}, {"full": True}):
        said = [finding.said for finding in judged(run, **sample).of("ledger") if finding.outcome == "flag"]
        assert any("were scored by adapters 0000000000000000" in text for text in said), said
    each(run, lambda event: {name: value for name, value in event.items() if name != "adapters"})
    rehash(run)
    open_ = [finding.said for finding in judged(run, full=True).of("ledger") if finding.outcome == "unknown"]
    assert any("name no hash of the weights or adapters" in text for text in open_)


@pytest.mark.parametrize("field", ["batch", "phase", "begins"])
def test_a_full_replay_compares_every_field_of_a_line(adapted: Path, tmp_path: Path, field: str) -> None:
    run = shutil.copytree(adapted, tmp_path / "run")
    events = ledger_of(run)
    events[3][field] = {"batch": 7, "phase": "stream", "begins": True}[field]
    write_ledger(run, events)
    rehash(run)
    found = judged(run, full=True)
    assert any(f"line 4: {field} is" in finding.said for finding in found.of("ledger")), found.lines()


def test_where_a_sample_is_taken_cannot_be_known_before(adapted: Path, tmp_path: Path) -> None:
    """A forger who lowers all losses but those of one seed's sample is found by another's."""
    assert len({Sample().seed for _ in range(4)}) > 1
    run = shutil.copytree(adapted, tmp_path / "run")
    evidence, model = Evidence(run), model_of(Evidence(run), torch.device("cpu"))
    assert not isinstance(model, Missing)
    assert not isinstance(evidence.validation, Missing)
    done = again(model, evidence.validation, evidence.config.score, Sample(targets=32, seed=0)).done
    losses = np.fromfile(run / "token_losses", "<f4")
    (losses * np.where(done, 1, 0.5).astype(np.float32)).tofile(run / "token_losses")
    rehash(run)
    by_seed = {
        seed: any(each.outcome == "flag" and "token_losses:" in each.said for each in found.of("losses"))
        for seed in range(6)
        for found in [judged(run, targets=32, seed=seed)]
    }
    assert not by_seed[0]
    assert any(by_seed.values())


def test_an_evaluation_that_only_its_own_clock_keeps_within_the_limit_is_left_open(run: Path) -> None:
    setting(run, "score", max_seconds=10.0)
    change(run / "result.json", eval_seconds=9.5)
    for whole, said in ((9.9, False), (13.0, True)):
        of_stage(run, "score while adapting", seconds=whole)
        rehash(run)
        found = judged(run, targets=32).of("V11")
        assert any("which also loads the artifact, took 13 s" in finding.said for finding in found) is said


def test_a_slice_of_another_size_is_not_what_was_adapted_to(tmp_path: Path) -> None:
    run = train(tmp_path, "--score.ttt=held_out", "--score.held-out.tokens=256")
    assert judged(run, full=True).flagged == []
    first = ledger_of(run)
    for event, said in (
        ({"size": 300}, "has 300 tokens, score.held_out.tokens is 256"),
        ({"size": 1}, "are not those that the ledger names"),
    ):
        write_ledger(run, [first[0], first[1] | event, *first[2:]])
        assert any(said in finding.said for finding in judged(run, targets=32).findings), said
    write_ledger(run, [first[0], first[2], first[1], *first[3:]])
    assert any("again, or late" in finding.said for finding in judged(run, targets=32).of("ledger"))


def test_a_ledger_without_a_strategy_is_left_open(run: Path) -> None:
    each(run, lambda event: {name: value for name, value in event.items() if name != "strategy"})
    rehash(run)
    found = judged(run, targets=32).of("settings")
    assert any("names no strategy" in finding.said and finding.outcome == "unknown" for finding in found)
