"""The files of a record folder: their names, and the written schema of `submission.json`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from golf_fast.errors import InputError
from golf_fast.rules import SIZE_LIMIT_BYTES

SUBMISSION, README, SCRIPT, ARTIFACT, REQUIREMENTS = (
    "submission.json",
    "README.md",
    "train_gpt.py",
    "artifact.golf",
    "requirements.txt",
)
FOLDER_NAME = re.compile(r"\d{4}-\d{2}-\d{2}_[A-Za-z0-9][A-Za-z0-9._-]*")
"""A record folder: the date and a name."""

Text = Annotated[str, Meta(min_length=1)]
Date = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:?\d{2})?)?$")]
BitsPerByte = Annotated[float, Meta(gt=0, lt=100)]
Bytes = Annotated[int, Meta(ge=0)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Published(Struct):
    """The fields that every `submission.json` has, whoever made it; others are allowed."""

    author: Text
    github_id: Text
    name: Text
    date: Date
    val_bpb: BitsPerByte
    blurb: str | UnsetType = UNSET
    val_loss: float | UnsetType | None = UNSET
    val_bpb_std: float | UnsetType | None = UNSET
    bytes_total: Bytes | UnsetType = UNSET
    bytes_code: Bytes | UnsetType | None = UNSET


class SeedResult(Struct, forbid_unknown_fields=True):
    """The result of one run."""

    val_bpb: BitsPerByte
    val_loss: float
    bytes_total: Bytes
    bytes_model: Bytes
    steps: Bytes
    train_seconds: float
    eval_seconds: float | None
    run_id: str
    data_fingerprint: str
    artifact_sha256: Digest
    track: str
    violations: list[str]
    not_judged: list[str]


class Submission(Struct, forbid_unknown_fields=True, kw_only=True):
    """The `submission.json` that this package writes."""

    author: Text
    github_id: Text
    name: Text
    blurb: str
    date: Date
    track: Text
    record: bool
    """Whether it is meant as a record."""
    not_a_record_because: list[str]
    """Reasons why it is not a record, as texts; empty for a record."""
    val_bpb: BitsPerByte
    """Mean bits per byte over the seeds."""
    val_loss: float
    val_bpb_std: float | None
    """Sample standard deviation (n - 1) over the seeds; null for one seed."""
    seeds: Annotated[list[int], Meta(min_length=1)]
    seed_results: dict[str, SeedResult]
    """The result of each run, by seed."""
    artifact_seed: int
    """The seed of the artifact in the folder."""
    bytes_total: Bytes
    """Size of the code and the artifact in the folder."""
    bytes_code: Bytes
    bytes_model: Bytes
    bytes_total_max: Bytes
    """Greatest size of code and artifact over the seeds."""
    code_sha256: Digest
    artifact_sha256: Digest
    recipe: str
    params: Bytes
    techniques: list[str]
    hardware: str
    versions: dict[str, str]


def parse(value: Any, where: str) -> Submission | Published:
    """Parse a `submission.json`: as a `Submission` if it has the fields of this package, else as a `Published`.

    Args:
        value: plain JSON values.
        where: beginning of error messages.

    Raises:
        InputError: a field is missing or violates the schema; the message names it.
    """
    try:
        if isinstance(value, dict) and "code_sha256" in value:
            return msgspec.convert(value, Submission)
        return msgspec.convert(value, Published)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None


def fits(total: int) -> bool:
    """Whether a total size in bytes of code and model is within the limit."""
    return total <= SIZE_LIMIT_BYTES
