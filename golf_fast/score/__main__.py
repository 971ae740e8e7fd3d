"""Score an artifact: python -m golf_fast.score RUN_DIR, or ARTIFACT --tokens SHARD --tokenizer MODEL"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import tyro

from golf_fast import json_files, machine
from golf_fast.compress import dequantize, read_artifact
from golf_fast.config import DataConfig, ModelConfig, ScoreConfig, compiles
from golf_fast.console import exit_with
from golf_fast.data import Dataset, Tokenizer, prepare
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream
from golf_fast.ops import backends
from golf_fast.report import RunLog, table
from golf_fast.score.scorer import score_tokens

Config = TypeVar("Config", DataConfig, ModelConfig, ScoreConfig)


def rescore(
    run: Annotated[Path, tyro.conf.Positional],
    tokens: Path | None = None,
    tokenizer: Path | None = None,
    ttt: Literal["off", "chunked"] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Read an artifact back and score it: as its run did, or as the seed is scored. Nothing in a run directory changes.

    Under torchrun the ranks share the work.

    Args:
        run: What `python -m golf_fast.train` left behind; or an artifact alone, which needs tokens and a tokenizer.
        tokens: A shard to score instead of the run's validation tokens.
        tokenizer: The SentencePiece model of those tokens; by default the run's.
        ttt: Test-time training, instead of the run's.
        device: Where to compute.
    """
    alone = run.is_file()
    if alone and (tokens is None or tokenizer is None):
        raise InputError(f"{run}: an artifact alone is scored on --tokens SHARD with --tokenizer MODEL; give both")
    config = {} if alone else read_config(run / "config.json")
    scoring = ScoreConfig() if alone else _build(ScoreConfig, config["score"], run / "config.json")
    if ttt is not None:
        scoring = replace(scoring, ttt=ttt)
    chosen, _ = machine.choose_device(device)
    ranks = Ranks.from_environment(chosen.type)
    try:
        # Before a graph is made: an op that is resolved while one is has it made a second time.
        backends.describe(ranks.device)
    except ValueError as error:
        raise InputError(str(error)) from error
    dtype, _ = machine.choose_compute_dtype("auto" if alone else config["train"]["compute_dtype"], ranks.device)
    model = read_model(run if alone else run / "artifact.golf", dtype).to(ranks.device)
    spoken = Tokenizer(tokenizer or run / "tokenizer.model")
    if spoken.vocab_size != model.config.vocab_size:
        raise InputError(
            f"{spoken.path}: {spoken.vocab_size} pieces, the artifact's model has {model.config.vocab_size}"
        )
    if tokens is None:
        dataset = prepare(data_config(config["data"], run), spoken.vocab_size, ranks.device.type == "cuda")
    else:
        dataset = Dataset(tokens.name, [], [tokens], spoken.path, spoken.vocab_size, "", "")
    with RunLog(None, ranks.main) as log:
        compiled = "yes" if compiles(scoring.compile, ranks.device.type) else "no"
        log.line(f"torch.compile in scoring: {compiled} ({scoring.compile}, on {ranks.device.type})")
        score = score_tokens(
            model,
            dataset.val_tokens(scoring.window),
            spoken.token_bytes(),
            scoring,
            ranks,
            progress=lambda done, total: log.progress("score", done, total),
        )
        verdict = "legal" if score.legal else f"NOT LEGAL ({', '.join(score.violations)})"
        found = [scoring.ttt, score.tokens, score.bytes, score.nats / score.tokens, score.bpb, score.track, verdict]
        headers = ["adapting", "tokens", "bytes", "nats a token", "bits per byte", "track", "rules", "seconds"]
        log.line(table(headers, [[*found, f"{score.seconds:.1f}"]]))
    ranks.close()


def read_model(path: Path, compute_dtype: torch.dtype) -> GPT:
    """The float32 model that an artifact holds, on the CPU.

    Raises:
        InputError: the file is not a whole artifact, or what it holds is not a model of this package.
    """
    artifact = read_artifact(path)
    model = GPT(_build(ModelConfig, artifact.model_config, path), compute_dtype=compute_dtype)
    try:
        upstream.load(model, dequantize(artifact.tensors))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return model


def read_config(path: Path) -> dict[str, Any]:
    """The stages of a run directory's `config.json`.

    Raises:
        InputError: it is not there, or not what a run writes.
    """
    config = json_files.read_object(path, "the directory of a run is needed").get("config")
    if not isinstance(config, dict):
        raise InputError(f"{path}: is not the configuration of a run")
    missing = {"data", "train", "score"} - set(config)
    if missing:
        raise InputError(f"{path}: has no {', '.join(sorted(missing))}; it is not the configuration of a run")
    return config


def _build(kind: type[Config], fields: dict[str, Any], path: Path) -> Config:
    """A configuration from the plain values in a file.

    Raises:
        InputError: names the file; the fields are not those of this version, or a value is not allowed.
    """
    try:
        return kind(**fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except TypeError as error:
        raise InputError(f"{path}: its {kind.__name__} is not of this version ({error})") from error


def data_config(fields: dict[str, Any], run_dir: Path) -> DataConfig:
    """Where a run had its text from."""
    paths = {name: Path(fields[name]) for name in ("text", "shards", "tokenizer", "built") if fields.get(name)}
    return _build(DataConfig, fields | paths, run_dir / "config.json")


def main() -> None:
    """Run the command that the arguments describe."""
    tyro.cli(rescore, prog="python -m golf_fast.score")


if __name__ == "__main__":
    exit_with(main)
