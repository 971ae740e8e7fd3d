"""`result.json`: what a run reached, and whether it counts."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from golf_fast import json_files
from golf_fast.errors import InputError
from golf_fast.files import replacing
from golf_fast.from_plain import from_plain
from golf_fast.rules import SIZE_LIMIT_BYTES, is_legal
from golf_fast.runs.plain import plain


@dataclass(frozen=True)
class Result:
    """The result of a run. A measurement that was not made (or is not finite) is None.

    `total_bytes`, `fits` and `legal` follow from the other fields and are not given.
    """

    run_id: str
    recipe: str
    seed: int
    params: int
    """How many numbers the parameters are."""
    steps: int
    train_seconds: float
    tokens_per_second: float | None
    """Training tokens a second, over all ranks."""
    val_loss: float | None
    """The loss behind the score, in nats a token."""
    val_bpb: float | None
    """Bits per byte of the artifact, with test-time training if the run has it: the score."""
    val_tokens: int | None
    val_bytes: int | None
    bpb_before_compression: float | None
    bpb_without_ttt: float | None
    artifact_bytes: int | None
    code_bytes: int
    track: Literal["A", "B"]
    """A: a fixed predictor. B: it adapts while it is scored."""
    violations: list[str]
    """The rules that the run breaks, by their number."""
    eval_seconds: float | None
    device: str
    world_size: int
    versions: dict[str, str]
    data_fingerprint: str
    backends: dict[str, dict[str, str]]
    """op -> {"name", "reason"}"""
    compute_dtype: str
    recompiles: int
    peak_memory_bytes: int
    finished: bool
    code_hash: str = ""
    """SHA-256 of the sources that code_bytes counts."""
    artifact_parts: dict[str, int] = field(default_factory=dict)
    """Group of tensors, or "header" -> bytes of the artifact; they add up to it."""
    baselines: dict[str, float] = field(default_factory=dict)
    """General compressor -> bits per byte of the same validation text."""
    file_hashes: dict[str, str] = field(default_factory=dict)
    """Name of a file of the run directory -> SHA-256, of each that the result follows from: artifact, tokenizer,
    settings, schedule, ledger and losses."""
    validation_shards: dict[str, str] = field(default_factory=dict)
    """Path of each shard that was scored, in order -> SHA-256."""
    validation_bytes: dict[str, str] = field(default_factory=dict)
    """Path of each file beside them that says how many bytes their tokens stand for -> SHA-256."""
    not_judged: list[str] = field(default_factory=list)
    """What could not be judged, and why. One that begins with the number of a rule leaves open whether it is legal."""
    score_order: Literal["stream", "length"] = "stream"
    """Order in which the validation documents were scored."""
    resumed: int = 0
    """How often the run was cut short and went on."""
    repeated_seconds: float = 0.0
    """Seconds of work that were done again because of it. Of compression and of the final scoring they count as time
    of the run too; training goes on with its clock where its checkpoint was taken."""
    total_bytes: int | None = field(init=False)
    fits: bool = field(init=False)
    legal: bool = field(init=False)

    def __post_init__(self) -> None:
        total = None if self.artifact_bytes is None else self.artifact_bytes + self.code_bytes
        object.__setattr__(self, "total_bytes", total)
        object.__setattr__(self, "fits", total is not None and total <= SIZE_LIMIT_BYTES)
        object.__setattr__(self, "legal", is_legal(self.violations, self.not_judged))

    def write(self, path: Path) -> None:
        """Write `path` whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        with replacing(path, "w") as file:
            json.dump(plain(dataclasses.asdict(self)), file, indent=2, allow_nan=False)
            file.write("\n")


def read(path: Path) -> Result:
    """The result in `path`. Fields that are not known here are passed over.

    Raises:
        InputError: the file is missing, is no result, or its totals and verdicts do not follow from its numbers.
    """
    held = json_files.read_object(path, "the result.json of a run is needed")
    result = from_plain(Result, held, path, lenient=True)
    for name in ("total_bytes", "fits", "legal"):
        if name not in held:
            raise InputError(f"{path}: has no {name}; a result has one")
        if (type(held[name]), held[name]) != (type(getattr(result, name)), getattr(result, name)):
            raise InputError(f"{path}: {name} is {held[name]}, but its other fields make it {getattr(result, name)}")
    return result
