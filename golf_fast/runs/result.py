"""`result.json`: the result of a run, and whether it is legal."""

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
    """Number of parameters."""
    steps: int
    train_seconds: float
    tokens_per_second: float | None
    """Training tokens per second, over all ranks."""
    val_loss: float | None
    """The loss of the score, in nats per token."""
    val_bpb: float | None
    """The score: bits per byte of the artifact, with test-time training if the run uses it."""
    val_tokens: int | None
    val_bytes: int | None
    bpb_before_compression: float | None
    bpb_without_ttt: float | None
    artifact_bytes: int | None
    code_bytes: int
    track: Literal["A", "B"]
    """Track "A" for a fixed predictor, "B" for one that adapts while it is scored."""
    violations: list[str]
    """Numbers of the rules that the run breaks."""
    eval_seconds: float | None
    device: str
    world_size: int
    versions: dict[str, str]
    data_fingerprint: str
    backends: dict[str, dict[str, str]]
    """The "name" and the "reason" of the backend of each op."""
    compute_dtype: str
    recompiles: int
    peak_memory_bytes: int
    finished: bool
    code_hash: str = ""
    """SHA-256 of the sources that code_bytes counts."""
    artifact_parts: dict[str, int] = field(default_factory=dict)
    """Bytes of the artifact by group of tensors, and of the "header"; they add up to its size."""
    baselines: dict[str, float] = field(default_factory=dict)
    """Bits per byte of general-purpose compressors on the same validation text, by compressor."""
    file_hashes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file of the run directory that the result depends on (artifact, tokenizer, settings, schedule,
    ledger and losses), by file name."""
    validation_shards: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each scored shard by its path, in order."""
    validation_bytes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each side-car with the bytes of the shards' tokens, by its path."""
    not_judged: list[str] = field(default_factory=list)
    """What could not be judged, and why. An entry that begins with the number of a rule leaves the verdict open."""
    score_order: Literal["stream", "length"] = "stream"
    """Order in which the validation documents were scored."""
    resumed: int = 0
    """Number of times that the run was interrupted and resumed."""
    repeated_seconds: float = 0.0
    """Seconds of work that were repeated because of that. Those of compression and of the final scoring count as time
    of the run; the training clock is restored with the checkpoint."""
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
    """The result in `path`; unknown fields are ignored.

    Raises:
        InputError: the file is missing, is not a result, or its totals and verdicts contradict its numbers.
    """
    held = json_files.read_object(path, "the result.json of a run is needed")
    result = from_plain(Result, held, path, lenient=True)
    for name in ("total_bytes", "fits", "legal"):
        if name not in held:
            raise InputError(f"{path}: has no {name}; a result has one")
        if (type(held[name]), held[name]) != (type(getattr(result, name)), getattr(result, name)):
            raise InputError(f"{path}: {name} is {held[name]}, but its other fields make it {getattr(result, name)}")
    return result
