"""Score an artifact: python -m golf_fast.score RUN_DIR, or ARTIFACT --data FOLDER, or ARTIFACT --tokens SHARD ..."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from golf_fast import machine
from golf_fast.arguments import as_typed, call
from golf_fast.compress import read_artifact
from golf_fast.config import ScoreConfig, compiles
from golf_fast.console import exit_with
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model.backends import resolve_backends
from golf_fast.report import RunLog, table
from golf_fast.rules import in_words
from golf_fast.runs import FinishedRun
from golf_fast.score.loading import Scorable, load_artifact, load_run, require_there
from golf_fast.score.scorer import score_tokens
from golf_fast.watched_peers import WatchedPeers


def rescore(
    run: Annotated[Path, tyro.conf.Positional],
    tokens: Path | None = None,
    data: Path | None = None,
    tokenizer: Path | None = None,
    ttt: Literal["off", "chunked", "documents", "phased"] | None = None,
    streaming: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Read an artifact and score it with the settings of its run, or of the seed. A run directory is not changed.

    Under torchrun the ranks share the work.

    Args:
        run: What `python -m golf_fast.train` left behind; or only an artifact, which needs tokens and a tokenizer.
        tokens: A shard to score instead of the run's validation tokens.
        data: A folder whose *_val_*.bin shards, joined in the order of their names, are scored instead.
        tokenizer: The SentencePiece model of those tokens; by default the run's, for an artifact the only one in the
            folder of the data, or in ../../tokenizers from there.
        ttt: Test-time training, instead of the run's.
        streaming: One pass along the stream in place of windows; without adapting, for a model with windows only.
        device: Where to compute.
    """
    chosen, _ = machine.choose_device(device)
    with Ranks.from_environment(chosen.type, peers=WatchedPeers) as ranks:
        resolve_backends(ranks.device)
        if tokens and data:
            raise InputError(f"--tokens is {tokens} and --data {data}: name one of both")
        named = tokens or data
        if not run.is_file():
            require_there(run)
            loaded = load_run(FinishedRun(run), ranks.device, named, tokenizer)
        elif named and (tokenizer or data):
            loaded = load_artifact(run, ranks.device, named, tokenizer)
        else:
            read_artifact(run)  # what is none is not asked for its tokens
            raise InputError(
                f"{run}: an artifact without its run needs --tokens SHARD and --tokenizer MODEL, or --data"
            )
        config = loaded.config
        typed = {"score.ttt": "--ttt"} if ttt else {}
        if streaming:
            typed["score.streaming"] = "--streaming"
        with as_typed(typed):
            if streaming:
                config = replace(config, ttt=ttt or "off", streaming=True)
            elif ttt is not None:
                config = replace(config, ttt=ttt, streaming=config.streaming and ttt == "off")
            _score(loaded, config, ranks)


def _score(loaded: Scorable, config: ScoreConfig, ranks: Ranks) -> None:
    """Score, and print the score as a table of one row."""
    with RunLog(None, ranks.main) as log:
        compiled = "yes" if compiles(config.compile, ranks.device.type) else "no"
        log.line(f"torch.compile in scoring: {compiled} ({config.compile}, on {ranks.device.type})")
        for sentence in loaded.unlike:
            log.line(f"not the score of a run: {sentence}")
        score = score_tokens(
            loaded.model,
            loaded.dataset.validation(config.window),
            config,
            ranks,
            progress=lambda done, total: log.progress("score", done, total),
            log=log.line,
        )
        verdict = in_words(score.violations, score.not_judged)
        if score.legal:  # an artifact without its run may have been trained on the tokens that it is scored on
            verdict = "unverified" if loaded.unlike else "legal"
        found = [config.ttt, score.tokens, score.bytes, score.nats / score.tokens, score.bpb, score.track, verdict]
        headers = ["adapting", "tokens", "bytes", "nats a token", "bits per byte", "track", "rules", "seconds"]
        log.line(table(headers, [[*found, f"{score.seconds:.1f}"]]))


def main() -> None:
    """Run the command that the arguments describe."""
    call(rescore, "python -m golf_fast.score")


if __name__ == "__main__":
    exit_with(main)
