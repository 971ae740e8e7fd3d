"""Loads what scoring needs from a finished run or from an artifact: the model, its tokenizer and the tokens."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from golf_fast import machine
from golf_fast.compress import read_artifact
from golf_fast.compress.stored import dequantized, own_names
from golf_fast.config import ModelConfig, ScoreConfig
from golf_fast.data import Dataset, Tokenizer
from golf_fast.data.dataset import DOUBTED_TOKENS, find
from golf_fast.data.shards import HEADER_BYTES, Shard, find_shards, side_cars
from golf_fast.errors import InputError, printable
from golf_fast.files import open_regular, sha256
from golf_fast.from_plain import from_plain
from golf_fast.model import GPT, upstream
from golf_fast.model.backends import require_compute_dtype, require_kernel_shapes
from golf_fast.runs import FinishedRun, Result

_MAX_SHARD_BYTES = HEADER_BYTES + 2 * (2**31 - 1)
"""Size of the longest possible shard in bytes; a run directory may name a larger file."""
_BY_HAND = "name others with --tokens SHARD and --tokenizer MODEL"


@dataclass(frozen=True)
class Scorable:
    """A model with the tokens to score it on.

    Attributes:
        config: the default settings of the score.
        unlike: sentences on what was requested to differ from the model's run; if there are none, the score must be
            that of the run.
    """

    model: GPT
    tokenizer: Tokenizer
    dataset: Dataset
    config: ScoreConfig
    unlike: tuple[str, ...]


def load_run(
    run: FinishedRun, device: torch.device, tokens: Path | None = None, tokenizer: Path | None = None
) -> Scorable:
    """The artifact of a run, to be scored as in the run.

    Every file is compared with the hash that the run recorded. Outside its directory only the shards that it names are
    read, and only if they are the ones that were scored. Nothing is built or written.

    Args:
        run: the finished run.
        device: device of the model, which computes in the dtype of the run.
        tokens: a shard to score instead of the run's validation tokens, or a folder of *_val_*.bin shards.
        tokenizer: the SentencePiece model of those tokens; by default the run's.

    Raises:
        InputError: a file is missing or damaged, is not that of the run, or does not match the others.
    """
    config, recorded = run.config, run.result()
    if not recorded.file_hashes:
        recorded = _of_an_earlier_version(run, recorded)
    _require_own(run.paths.artifact, recorded)
    model, spoken = _model_and_tokenizer(
        run.paths.artifact, tokenizer or run.paths.tokenizer, config.train.compute_dtype, device
    )
    for name, value in vars(config.model).items():
        if (held := getattr(model.config, name)) != value:
            raise InputError(
                f"{run.paths.config}: model.{name} is {value}, but {held} in {run.paths.artifact}; "
                f"one of both is not of this run; score the artifact by itself: {_BY_HAND}"
            )
    unlike = []
    if tokenizer is None:
        _require_own(run.paths.tokenizer, recorded)
    elif spoken.sha256 != recorded.file_hashes.get(run.paths.tokenizer.name):
        unlike.append(f"{tokenizer} (SHA-256 {_short(spoken.sha256)}) is not the tokenizer of the run")
    if tokens is None:
        shards = [_own_shard(Path(name), digest) for name, digest in recorded.validation_shards.items()]
        if not shards:
            raise InputError(f"{run.paths.result}: names no validation shard; {_BY_HAND}")
        beside = [_own_shard(Path(name), digest) for name, digest in recorded.validation_bytes.items()]
        if side_cars(shards) != beside:
            raise InputError(
                f"{shards[0].parent}: has {len(side_cars(shards))} files with the bytes of its tokens, the run had "
                f"{len(beside)}; put the folder back as it was, or {_BY_HAND}"
            )
    else:
        shards = _shards(tokens)
        digests = [sha256(shard, "a token shard is needed") for shard in shards]
        if digests != list(recorded.validation_shards.values()):
            of = ", ".join(map(_short, digests))
            unlike.append(f"{tokens} (SHA-256 {of}) is not what the run was scored on")
    if unlike and (doubt := spoken.doubt(Shard(shards[0]).read(0, DOUBTED_TOKENS))):
        unlike.append(doubt)
    return Scorable(model, spoken, _held_out(shards, spoken), config.score, tuple(unlike))


def load_artifact(artifact: Path, device: torch.device, tokens: Path, tokenizer: Path | None = None) -> Scorable:
    """An artifact without its run, to be scored as the seed is scored.

    Args:
        artifact: the file of the artifact.
        device: device of the model, which computes in the default dtype of the device.
        tokens: a shard, or a folder of *_val_*.bin shards.
        tokenizer: the SentencePiece model of the tokens; by default the only one in the folder of the shards, or in
            the `tokenizers` two folders above, where the challenge has it.

    Raises:
        InputError: a file is missing or damaged, or they do not fit together.
    """
    shards = _shards(tokens)
    tokenizer = tokenizer or _tokenizer_beside(shards[0].parent)
    model, spoken = _model_and_tokenizer(artifact, tokenizer, "auto", device)
    unlike = [f"{tokens} and {tokenizer} were named by hand; nothing says that {artifact} was made with them"]
    if doubt := spoken.doubt(Shard(shards[0]).read(0, DOUBTED_TOKENS)):
        unlike.append(doubt)
    return Scorable(model, spoken, _held_out(shards, spoken), ScoreConfig(), tuple(unlike))


def load_for_sampling(path: Path, device: torch.device, tokenizer: Path | None = None) -> tuple[GPT, Tokenizer]:
    """The model of a run directory or of an artifact, and its tokenizer, to sample text with.

    Args:
        path: a run directory, whose files are compared with the hashes that it recorded; or an artifact.
        device: device of the model, which computes in the default dtype of the device.
        tokenizer: a SentencePiece model; by default the run's, for an artifact the only one in its folder.

    Raises:
        InputError: a file is missing or damaged, or they do not fit together.
    """
    if path.is_file():
        if tokenizer is None:
            try:
                tokenizer = _tokenizer_beside(path.parent)
            except InputError:
                read_artifact(path)  # a file that is none is not asked for its tokenizer
                raise
        return _model_and_tokenizer(path, tokenizer, "auto", device)
    require_there(path)
    run = FinishedRun(path)
    recorded = run.result()
    for own in (run.paths.artifact, *([] if tokenizer else [run.paths.tokenizer])):
        if recorded.file_hashes:
            _require_own(own, recorded)
    return _model_and_tokenizer(run.paths.artifact, tokenizer or run.paths.tokenizer, "auto", device)


def require_there(path: Path) -> None:
    """Refuse a name under which there is neither the directory of a run nor an artifact.

    Raises:
        InputError: there is nothing.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; name the directory of a run, or an artifact")


def _shards(tokens: Path) -> list[Path]:
    """The path itself if it is a shard, or the validation shards of a folder in the order of their names."""
    if not tokens.is_dir():
        return [tokens]
    return find_shards(tokens, "val")


def _tokenizer_beside(folder: Path) -> Path:
    for place in (folder, folder.parent.parent / "tokenizers"):
        found = sorted(place.glob("*.model"))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{place}: holds {len(found)} tokenizers; name the right one with --tokenizer MODEL")
    raise InputError(f"{folder}: holds no tokenizer (*.model); name one with --tokenizer MODEL")


def _of_an_earlier_version(run: FinishedRun, recorded: Result) -> Result:
    """A result of an earlier version, completed by the hashes of existing data that have its fingerprint."""
    dataset = find(run.config.data, recorded.data_fingerprint)
    if dataset is None:
        raise InputError(
            f"{run.paths.result}: records no hash of a file, and the data with its fingerprint are neither in "
            f"{run.config.data.shards} nor in {run.config.data.built}; {_BY_HAND}"
        )
    size = run.paths.artifact.stat().st_size if run.paths.artifact.is_file() else None
    if size != recorded.artifact_bytes:
        raise InputError(f"{run.paths.artifact}: has {size} bytes, the run left {recorded.artifact_bytes}; {_BY_HAND}")
    hashes = {run.paths.artifact.name: sha256(run.paths.artifact), run.paths.tokenizer.name: dataset.tokenizer().sha256}
    shards = {str(path): sha256(path) for path in dataset.val_shards}
    return replace(recorded, file_hashes=hashes, validation_shards=shards)


def _require_own(path: Path, recorded: Result) -> None:
    """Check that a file of a run directory has the hash that the run recorded."""
    wanted = recorded.file_hashes.get(path.name)
    if wanted is None:
        raise InputError(f"{path}: the result.json beside it records no hash of it; score it by itself: {_BY_HAND}")
    if (found := sha256(path, "a file that a run left is needed")) != wanted:
        raise InputError(
            f"{path}: has SHA-256 {_short(found)}, the run left {_short(wanted)}; "
            f"put that file back, or score the artifact by itself: {_BY_HAND}"
        )


def _own_shard(path: Path, wanted: str) -> Path:
    """The path of a shard that a run was scored on, after a check of its hash."""
    needed = f"it is the shard that the run was scored on: score where the run was made, or {_BY_HAND}"
    with open_regular(path, needed) as file:
        size = os.fstat(file.fileno()).st_size
    if size > _MAX_SHARD_BYTES:
        raise InputError(f"{path}: has {size} bytes; a shard has at most {_MAX_SHARD_BYTES}")
    if (found := sha256(path, needed)) != wanted:
        raise InputError(
            f"{path}: has SHA-256 {_short(found)}, the run was scored on {_short(wanted)}; "
            f"put that shard back, or {_BY_HAND}"
        )
    return path


def _short(digest: str) -> str:
    return printable(digest[:12])


def read_model(path: Path, compute_dtype: torch.dtype) -> GPT:
    """The float32 model that an artifact holds, on the CPU.

    Raises:
        InputError: the file is not a whole artifact, or what it holds is not a model of this package.
    """
    artifact = read_artifact(path)
    config = from_plain(ModelConfig, artifact.model_config, path, "model")
    try:
        # Checked before anything is allocated: a header may declare a model far larger than the file.
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
    require_compute_dtype(device, dtype)
    model = read_model(artifact, dtype)
    require_kernel_shapes(device, model.config)
    spoken = Tokenizer(tokenizer)
    if spoken.vocab_size != model.config.vocab_size:
        raise InputError(
            f"{spoken.path}: {spoken.vocab_size} pieces, the artifact's model has {model.config.vocab_size}"
        )
    return model.to(device), spoken


def _held_out(shards: list[Path], spoken: Tokenizer) -> Dataset:
    """A dataset of validation shards without training shards."""
    return Dataset(shards[0].parent.name, [], shards, spoken.path, spoken.vocab_size, "", "")
