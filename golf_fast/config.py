"""The configuration of a run: one frozen dataclass per stage, checked on construction.

Defaults are those of the seed (the published 25.5 M-parameter submission, with legal test-time training).
The named variants are in `golf_fast.recipes`. Importing this module imports no stage.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from golf_fast.checks import later, require, require_numbers
from golf_fast.compress_config import CodecName, CompressConfig
from golf_fast.model_config import ModelConfig
from golf_fast.score_config import Compile, ScoreConfig, compiles
from golf_fast.train_config import Coefficients, TrainConfig

__all__ = [
    "CodecName",
    "Coefficients",
    "Compile",
    "CompressConfig",
    "DataConfig",
    "ModelConfig",
    "RunConfig",
    "ScoreConfig",
    "TrainConfig",
    "compiles",
]

Tracker = Literal["tensorboard", "wandb", "trackio"]
"""A program that is told the numbers of a run beside its own files."""


@dataclass(frozen=True)
class DataConfig:
    """Where text and tokens come from."""

    source: Literal["auto", "embedded", "text", "shards"] = "auto"
    """Kind of input. auto: `text` if it is given, else the shards if they are there, else (without a GPU) the embedded
    corpus."""
    text: Path | None = None
    """A text file, a JSONL file with a "text" field, or a folder of them, to train on and hold some of it out."""
    shards: Path = Path("data/datasets/fineweb10B_sp1024")
    """A folder of *_train_*.bin and *_val_*.bin shards in the challenge's format."""
    tokenizer: Path = Path("data/tokenizers/fineweb_1024_bpe.model")
    """The SentencePiece model that the shards were made with."""
    built: Path = Path("data/built")
    """Where shards made from text are kept, one folder per corpus, tokenizer and split."""
    val_fraction: float = 0.1
    """Share of the documents of a text that is held out for validation."""
    case_ops: bool = later(False)
    """Take capitals out of a text before it is made into tokens, and say them by operators; reversible."""

    def __post_init__(self) -> None:
        require_numbers(self, "data")
        require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "between 0 and 1")
        require(self.source != "text" or self.text is not None, "data.source", "text", "used with a path in data.text")


@dataclass(frozen=True)
class RunConfig:
    """One run, from text to a scored artifact."""

    recipe: str = "seed"
    """The named variant that the run started from."""
    seed: int = 42
    """Seed of everything random."""
    run_id: str = ""
    """Name of the run directory; empty: recipe, date and time."""
    runs_dir: Path = Path("runs")
    """Where run directories are made."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to run on; auto: a GPU if torch sees one."""
    track: tuple[Tracker, ...] = later(())
    """Trackers that are told the numbers of the run beside its own files; each needs its package (extra "track")."""
    profile: str = later("")
    """Training steps to trace, START:END, counted from 1 and both included, such as 20:24; slows them. Empty: none."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        require(-(2**63) <= self.seed < 2**64, "seed", self.seed, "of at most 64 bits, from -2^63 to 2^64 - 1")
        require(
            not self.run_id
            or (Path(self.run_id).name == self.run_id and self.run_id != ".." and self.run_id.isprintable()),
            "run_id",
            ascii(self.run_id),
            "a plain name, no path",
        )
        span = self.profiled
        require(
            not self.profile or (span is not None and 1 <= span[0] <= span[1]),
            "profile",
            ascii(self.profile),
            "START:END, two numbers of steps from 1, the second not below the first, such as 20:24",
        )
        require(len(set(self.track)) == len(self.track), "track", " ".join(self.track), "each name once")
        if self.score.streaming:
            windows = f"without a 0 where score.streaming is on; {self.model.window} sees all positions before"
            require(None not in self.model.windows, "model.window", self.model.window, windows)
        if self.model.separate_documents:
            protocols = ("off", "documents", "phased")
            needed = (
                f"one of {', '.join(protocols)} where model.separate_documents is on: they score document by document"
            )
            require(self.score.ttt in protocols and not self.score.streaming, "score.ttt", self.score.ttt, needed)
        if self.score.ttt != "off":
            require(
                self.score.ttt_freeze_blocks <= self.model.layers,
                "score.ttt_freeze_blocks",
                self.score.ttt_freeze_blocks,
                f"at most {self.model.layers}, the blocks of the model",
            )

    @property
    def profiled(self) -> tuple[int, int] | None:
        """The first and last training step to trace, counted from 1; None for none."""
        found = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", self.profile)
        return (int(found[1]), int(found[2])) if found else None

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
