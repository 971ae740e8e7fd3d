"""What a score needs of a finished run, or of an artifact without one: the model, its tokenizer and the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from golf_fast import machine
from golf_fast.compress import read_artifact
from golf_fast.compress.stored import dequantized, own_names
from golf_fast.config import ModelConfig, ScoreConfig
from golf_fast.data import Dataset, Tokenizer, prepare
from golf_fast.errors import InputError
from golf_fast.from_plain import from_plain
from golf_fast.model import GPT, upstream
from golf_fast.runs import FinishedRun


@dataclass(frozen=True)
class Scorable:
    """A model, and what it is scored on.

    Attributes:
        config: how the model is scored, where nobody says otherwise.
    """

    model: GPT
    tokenizer: Tokenizer
    dataset: Dataset
    config: ScoreConfig


def load_run(
    run: FinishedRun, device: torch.device, tokens: Path | None = None, tokenizer: Path | None = None
) -> Scorable:
    """The artifact of a run, to be scored as the run did.

    Args:
        device: where the model goes; it computes in the run's number format.
        tokens: a shard to score instead of the run's validation tokens.
        tokenizer: the SentencePiece model of those tokens; by default the run's.

    Raises:
        InputError: a file of the run is missing or damaged, or does not fit to the others.
    """
    config = run.config
    model, spoken = _model_and_tokenizer(
        run.paths.artifact, tokenizer or run.paths.tokenizer, config.train.compute_dtype, device
    )
    if tokens is None:
        dataset = prepare(config.data, spoken.vocab_size, device.type == "cuda")
    else:
        dataset = _only(tokens, spoken)
    return Scorable(model, spoken, dataset, config.score)


def load_artifact(artifact: Path, device: torch.device, tokens: Path, tokenizer: Path) -> Scorable:
    """An artifact that comes without its run, to be scored on a shard as the seed is scored.

    Args:
        device: where the model goes; it computes in the number format that fits there.
        tokenizer: the SentencePiece model of the tokens.

    Raises:
        InputError: a file is missing or damaged, or they do not fit together.
    """
    model, spoken = _model_and_tokenizer(artifact, tokenizer, "auto", device)
    return Scorable(model, spoken, _only(tokens, spoken), ScoreConfig())


def read_model(path: Path, compute_dtype: torch.dtype) -> GPT:
    """The float32 model that an artifact holds, on the CPU.

    Raises:
        InputError: the file is not a whole artifact, or what it holds is not a model of this package.
    """
    artifact = read_artifact(path)
    config = from_plain(ModelConfig, artifact.model_config, path, "model")
    try:
        # Before anything is allocated: what a file says of its model may be a thousand times what it holds.
        upstream.check(config, {name: artifact.tensors[name].shape for name in own_names(artifact.tensors)})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    model = GPT(config, compute_dtype=compute_dtype, seed=None)
    upstream.fill(model, dequantized(artifact.tensors))
    return model


def _model_and_tokenizer(
    artifact: Path, tokenizer: Path, wanted_dtype: str, device: torch.device
) -> tuple[GPT, Tokenizer]:
    dtype, _ = machine.choose_compute_dtype(wanted_dtype, device)
    model = read_model(artifact, dtype).to(device)
    spoken = Tokenizer(tokenizer)
    if spoken.vocab_size != model.config.vocab_size:
        raise InputError(
            f"{spoken.path}: {spoken.vocab_size} pieces, the artifact's model has {model.config.vocab_size}"
        )
    return model, spoken


def _only(tokens: Path, spoken: Tokenizer) -> Dataset:
    """One shard, held out."""
    return Dataset(tokens.name, [], [tokens], spoken.path, spoken.vocab_size, "", "")
