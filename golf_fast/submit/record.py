"""Examines runs that differ only in the seed for a record: their results, and what speaks against a record."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from golf_fast.audit.run.evidence import Evidence
from golf_fast.audit.run.judge import Audit, audit
from golf_fast.audit.run.replay import Sample
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import read_bytes
from golf_fast.rules import RANKED_DEVICES, SIZE_LIMIT_BYTES, sentence
from golf_fast.runs import FinishedRun, Result
from golf_fast.submit.schema import fits


@dataclass(frozen=True)
class Candidate:
    """A finished run with a score, and the findings of its audit.

    Attributes:
        code: content of the shipped file.
        artifact_bytes: measured size of the artifact in the run directory.
    """

    run: FinishedRun
    config: RunConfig
    result: Result
    audit: Audit
    code: bytes
    artifact_bytes: int
    artifact_sha256: str

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config.seed

    @property
    def bpb(self) -> float:
        """The score."""
        assert self.result.val_bpb is not None
        return self.result.val_bpb

    @property
    def total(self) -> int:
        """Total size of code and artifact in bytes."""
        return len(self.code) + self.artifact_bytes


def examine(folder: Path, sample: Sample, device: torch.device, data: Path | None = None) -> Candidate:
    """Read a run and audit it; nothing in it is written.

    Args:
        folder: the run directory.
        sample: the sample of its targets that is scored again.
        device: device to score on.
        data: folder with its validation shards, if they have been moved.

    Raises:
        InputError: the folder is not a run, the run did not finish, or the code or the artifact is missing.
    """
    evidence = Evidence(folder, data)
    run, result = FinishedRun(folder), evidence.result
    if not result.finished or result.val_bpb is None:
        raise InputError(f"{folder}: the run did not finish, so it has no score; a run that ended is needed")
    code = read_bytes(run.paths.code, "the code that the run would ship is needed; an earlier version left none")
    artifact = read_bytes(run.paths.artifact, "the artifact of the run is needed", 1 << 30)
    installed = (hashlib.sha256(code).hexdigest(), len(code))
    judged = audit(folder, sample, device, data, installed)
    digest = hashlib.sha256(artifact).hexdigest()
    return Candidate(run, evidence.config, result, judged, code, len(artifact), digest)


def require_different(folders: Sequence[Path]) -> None:
    """Refuse runs that cannot stand beside one another in a folder: one that is named twice, or two of one seed.

    Raises:
        InputError: there are such, or a folder that is no run.
    """
    named: dict[Path, Path] = {}
    seeds: dict[int, Path] = {}
    for folder in folders:
        if folder.resolve() in named:
            raise InputError(f"{folder}: is named twice; name each run once")
        named[folder.resolve()] = folder
        seed = FinishedRun(folder).config.seed
        if seed in seeds:
            raise InputError(f"{folder}: has seed {seed}, as {seeds[seed]} has; each run needs a seed of its own")
        seeds[seed] = folder


def against(candidates: Sequence[Candidate]) -> list[str]:
    """What speaks against a record, as texts; empty if nothing does."""
    found = [reason for candidate in candidates for reason in _against_one(candidate)]
    hashes = {hashlib.sha256(candidate.code).hexdigest()[:12] for candidate in candidates}
    if len(hashes) > 1:
        found.append(f"V14: the runs have different code: SHA-256 {', '.join(sorted(hashes))}")
    seeds = [candidate.seed for candidate in candidates]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        found.append(f"seed {twice[0]} stands twice; each run needs a seed of its own")
    made = [candidate.artifact_sha256 for candidate in candidates]
    if len(set(made)) < len(made):
        found.append("two runs have one artifact: each seed needs a run of its own")
    losses = [candidate.result.file_hashes.get(candidate.run.paths.token_losses.name) for candidate in candidates]
    if len(set(losses)) < len(losses) and None not in losses:
        found.append("two runs have the same losses: each seed needs a run of its own")
    data = {candidate.result.data_fingerprint for candidate in candidates}
    if len(data) > 1:
        found.append("the runs had different data")
    return found


def _against_one(candidate: Candidate) -> list[str]:
    name, result, judged = candidate.run.paths.folder, candidate.result, candidate.audit
    found = []
    if hashlib.sha256(candidate.code).hexdigest() != result.code_hash:
        found.append(f"V14: {candidate.run.paths.code} is not the code that the run counted")
    if not fits(candidate.total):
        found.append(
            f"V10: {name}: {candidate.total:,} bytes, {len(candidate.code):,} of code and "
            f"{candidate.artifact_bytes:,} of the model; the limit is {SIZE_LIMIT_BYTES:,}"
        )
    for check in judged.flagged:
        said = next((finding.said for finding in judged.of(check) if finding.outcome == "flag"), "")
        if check != "V10" or fits(candidate.total):
            found.append(f"{check}: {name}: {said}")
    if judged.verdict is None:
        found.append(f"{name}: its ledger cannot be judged")
        return found
    for rule in judged.verdict.violations:
        if rule not in judged.flagged:
            found.append(f"{name}: {sentence(rule)}")
    for said in judged.verdict.not_judged:
        if said.startswith(("V", "split:", "evaluation:")):
            found.append(f"{name}: {said}")
    devices, world = RANKED_DEVICES.split("x")[1], int(RANKED_DEVICES.split("x")[0])
    if result.world_size != world or devices not in result.device:
        found.append(f"{name}: ran on {result.world_size} x {result.device}; a record is made on {RANKED_DEVICES}")
    return found
