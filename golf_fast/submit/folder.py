"""Writes the folder of a record, atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import msgspec

from golf_fast.errors import InputError
from golf_fast.files import new_neighbour, read_bytes, reason
from golf_fast.submit import readme
from golf_fast.submit.record import Candidate, against
from golf_fast.submit.schema import (
    ARTIFACT,
    FOLDER_NAME,
    README,
    REQUIREMENTS,
    SCRIPT,
    SUBMISSION,
    SeedResult,
    Submission,
)
from golf_fast.submit.techniques import techniques

NEEDED = "zstandard>=0.23\n"
"""The requirements of the built file besides torch, triton, numpy and sentencepiece, which the challenge's image
has."""


@dataclass(frozen=True)
class Author:
    """The author of a record, and the description of the record."""

    name: str
    github_id: str
    blurb: str = ""


def new_folder_path(out: Path, name: str, date: str) -> Path:
    """The path of the folder of a record, `out/DATE_NAME`.

    Raises:
        InputError: the name is not valid for a folder, or the path exists.
    """
    folder = out / f"{date}_{name}"
    if not FOLDER_NAME.fullmatch(folder.name):
        raise InputError(f"--name is {name!r}: it must be letters, digits, '.', '_' and '-', a letter or digit first")
    if folder.exists():
        raise InputError(f"{folder}: is there already, and stays as it is; choose another --name or --out")
    return folder


def write(
    candidates: Sequence[Candidate], out: Path, name: str, date: str, author: Author, *, record: bool = True
) -> Path:
    """Write `out/DATE_NAME`; nothing is left if that fails.

    Args:
        candidates: the runs, the first of which provides the artifact.
        out: parent folder.
        name: name of the record.
        date: date as YYYY-MM-DD.
        author: the author and the description.
        record: whether it is meant as a record; else every file states what speaks against one.

    Raises:
        InputError: something speaks against a record, or the folder exists or cannot be written.
    """
    folder = new_folder_path(out, name, date)
    reasons = against(candidates)
    if record and reasons:
        more = f" (and {len(reasons) - 1} more: {'; '.join(reasons[1:])})" if len(reasons) > 1 else ""
        raise InputError(f"no record: {reasons[0]}{more}; --non-record writes it with that label")
    made = submission(candidates, name, date, author, record=record, reasons=reasons or ["it is not meant as one"])
    temporary = new_neighbour(folder)
    try:
        temporary.mkdir(parents=True)
        for path, content in _files(candidates, made).items():
            (temporary / path).write_bytes(content)
        os.rename(temporary, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({reason(error)}); choose another --out") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return folder


def submission(
    candidates: Sequence[Candidate], name: str, date: str, author: Author, *, record: bool, reasons: Sequence[str]
) -> Submission:
    """The content of `submission.json`."""
    first = candidates[0]
    scores = [candidate.bpb for candidate in candidates]
    return Submission(
        author=author.name,
        github_id=author.github_id,
        name=name,
        blurb=author.blurb or "; ".join(techniques(first.config)),
        date=date,
        track="10min_16mb" if record else "non_record_16mb",
        record=record,
        not_a_record_because=[] if record else list(reasons),
        val_bpb=fmean(scores),
        val_loss=fmean(_seed_result(candidate).val_loss for candidate in candidates),
        val_bpb_std=stdev(scores) if len(scores) > 1 else None,
        seeds=[candidate.seed for candidate in candidates],
        seed_results={str(candidate.seed): _seed_result(candidate) for candidate in candidates},
        artifact_seed=first.seed,
        bytes_total=first.total,
        bytes_code=len(first.code),
        bytes_model=first.artifact_bytes,
        bytes_total_max=max(candidate.total for candidate in candidates),
        code_sha256=hashlib.sha256(first.code).hexdigest(),
        artifact_sha256=first.artifact_sha256,
        recipe=first.config.recipe,
        params=first.result.params,
        techniques=techniques(first.config),
        hardware=f"{first.result.world_size}x {first.result.device}",
        versions=first.result.versions,
    )


def _seed_result(candidate: Candidate) -> SeedResult:
    result, verdict = candidate.result, candidate.audit.verdict
    return SeedResult(
        val_bpb=candidate.bpb,
        val_loss=float(result.val_loss or 0.0),
        bytes_total=candidate.total,
        bytes_model=candidate.artifact_bytes,
        steps=result.steps,
        train_seconds=result.train_seconds,
        eval_seconds=result.eval_seconds,
        run_id=result.run_id,
        data_fingerprint=result.data_fingerprint,
        artifact_sha256=candidate.artifact_sha256,
        track=verdict.track if verdict else result.track,
        violations=verdict.violations if verdict else [],
        not_judged=verdict.not_judged if verdict else ["the ledger cannot be judged"],
    )


def _files(candidates: Sequence[Candidate], made: Submission) -> dict[str, bytes]:
    first = candidates[0]
    files = {
        SUBMISSION: (json.dumps(msgspec.to_builtins(made), indent=2) + "\n").encode(),
        README: readme.text(candidates, made).encode(),
        SCRIPT: first.code,
        ARTIFACT: read_bytes(first.run.paths.artifact, "the artifact of the run is needed"),
        REQUIREMENTS: NEEDED.encode(),
    }
    for candidate in candidates:
        log = read_bytes(candidate.run.paths.log, "the log of the run is needed")
        files[f"train_seed{candidate.seed}.log"] = log
    return files
