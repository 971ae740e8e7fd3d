"""Bad input ends a run in one line, with exit code 2, before it leaves anything."""

from pathlib import Path

import numpy as np
import pytest
from helpers.bare_run import leave_out_the_rest
from helpers.small_run import text
from helpers.whole_run import SMALL, exit_code

from golf_fast.compress.artifact import codecs
from golf_fast.data import write_shard

# What a run names where its input is not there, which is seen before anything is told of it.
_SEEN_AT_ONCE = {"absent.txt", "empty.txt", "absent"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data.text=empty.txt"], "empty.txt"),
        (["--data.text=latin.txt"], "latin.txt"),
        (["--data.text=absent.txt"], "absent.txt"),
        (["--data.shards=absent"], "absent"),
        (["--data.shards=cut", "--data.source=shards", "--data.tokenizer=text.jsonl"], "x_train_000000.bin"),
        (["--data.shards=foreign", "--data.source=shards", "--data.tokenizer=text.jsonl"], "x_train_000000.bin"),
        (["--data.shards=foreign", "--data.source=shards", "--data.tokenizer=absent"], "absent"),
        (["--runs-dir=empty.txt"], "empty.txt"),
        (["--train.batch-tokens=1000"], "train.batch_tokens is 1000"),
        (["--train.max-secnds=3"], "--train.max-seconds"),
        (["--train.replay-schedule=absent"], "absent/schedule.json"),
        (["--score.ttt=train_then_score"], "--score.allow-illegal"),
        (["--score.ttt-freeze-blocks=3"], "score.ttt_freeze_blocks is 3: it must be at most 2"),
        (["--compress.codec=brotli"], "the package brotli"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    for name, content in (("cut", b"short"), ("foreign", b"x" * 2000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x_train_000000.bin").write_bytes(content)
        write_shard(tmp_path / name / "x_val_000000.bin", np.zeros(500, np.uint16))
    text(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(codecs, "brotli", None)
    leave_out_the_rest(monkeypatch.setattr)
    source = [] if any(argument.startswith("--data.") for argument in arguments) else ["--data.text=text.jsonl"]
    assert exit_code(monkeypatch, [*SMALL, *source, *arguments]) == 2
    said, error = capsys.readouterr()
    assert error.startswith("error: ")
    assert said == "" or named not in _SEEN_AT_ONCE
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.glob("runs/*")] == ["mine"], "a refused run leaves no directory"
    assert named in error
