"""The files that a run ships, against what its result says of them: sizes, hashes, code, and the artifact's header."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from golf_fast import code_size
from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.config import ModelConfig, RunConfig
from golf_fast.errors import InputError
from golf_fast.files import reason, sha256
from golf_fast.from_plain import from_plain
from golf_fast.model import parameters
from golf_fast.rules import SIZE_LIMIT_BYTES

_MOST_BYTES = 1 << 30


def installed_code(config: RunConfig) -> tuple[str, int]:
    """Hash and bytes of the code that the installed package ships for a run."""
    code = code_size.code(config)
    return code.hash, code.size


def shipped(evidence: Evidence, code: tuple[str, int]) -> list[Finding]:
    """V10: the bytes of artifact and code, and whether the artifact and the tokenizer are those of the run."""
    result, path = evidence.result, evidence.paths.artifact
    found = _code_beside(evidence)
    if not path.is_file():
        return [*found, unknown("V10", "there is no artifact", path.name), *_code(evidence, code, 0)[1:]]
    size = path.stat().st_size
    if size != result.artifact_bytes:
        found.append(flagged("V10", f"has {size:,} bytes, artifact_bytes is {result.artifact_bytes}", path.name))
    return [*found, *_code(evidence, code, size)]


def unchanged(evidence: Evidence) -> list[Finding]:
    """Whether each file that the result follows from is there, is a file, can be read, and is as the run left it."""
    paths, found = evidence.paths, []
    checks = {
        paths.ledger: "ledger",
        paths.token_losses: "losses",
        paths.config: "settings",
        paths.schedule: "settings",
    }
    read = {
        paths.artifact: evidence.artifact,
        paths.tokenizer: evidence.tokenizer,
        paths.schedule: evidence.schedule,
        paths.token_losses: evidence.losses,
        paths.ledger: evidence.events,
    }
    for path in paths.evidence:
        check, content = checks.get(path, "artifact"), read.get(path)
        if isinstance(content, Missing) and not content.absent:
            found.append(flagged(check, content.why, path.name))
        else:
            found.append(_hashed(path, check, evidence.result.file_hashes.get(path.name)))
    return found


def _hashed(path: Path, check: str, wanted: str | None) -> Finding:
    if wanted is None:
        return unknown(check, "the result records no hash of it; an earlier version wrote it", path.name)
    if not path.exists():
        return unknown(check, "is missing", path.name)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return flagged(check, f"has {path.stat().st_size:,} bytes, more than a run leaves", path.name)
        digest = sha256(path)
    except (OSError, InputError) as error:
        return flagged(check, f"cannot be read ({reason(error)})", path.name)
    if digest != wanted:
        return flagged(check, f"has SHA-256 {digest[:12]}, the run left {wanted[:12]}", path.name)
    return passed(check, f"SHA-256 {digest[:12]} is what the run left", path.name)


def machine(evidence: Evidence) -> list[Finding]:
    """Whether the machine of the result is that of the settings."""
    held, found = evidence.machine, []
    device, torch = evidence.result.device, str(evidence.result.versions.get("torch", ""))
    if torch.endswith("+cpu") and "CPU" not in device:
        found.append(
            flagged("result", f"is {device}, and torch was {torch}, which runs on a CPU", "result.json device")
        )
    passes = [op for op, backend in evidence.result.backends.items() if " in C++ (" in str(backend.get("reason"))]
    if passes and "CPU" not in device:
        text = f"is {device}, and {passes[0]} ran in C++, which a CPU does"
        found.append(flagged("result", text, "result.json device"))
    if isinstance(held, Missing):
        return [*found, unknown("settings", held.why, "config.json machine")]
    for name in ("device", "world_size"):
        said = getattr(evidence.result, name)
        if held.get(name) != said:
            text, where = f"is {said}, the run began on {held.get(name)}", f"result.json {name}"
            resumed = evidence.result.resumed > 0
            found.append(
                unknown("result", f"{text} and was resumed", where) if resumed else flagged("result", text, where)
            )
    return found


def _code_beside(evidence: Evidence) -> list[Finding]:
    """Whether the code that the run left to be shipped is the code that it counted."""
    path, result = evidence.paths.code, evidence.result
    if not path.exists() or not result.code_hash:
        return []  # an earlier version left none
    try:
        digest, size = sha256(path), path.stat().st_size
    except (OSError, InputError) as error:
        return [flagged("code", f"cannot be read ({reason(error)})", path.name)]
    found = []
    if size != result.code_bytes:
        found.append(flagged("V10", f"has {size:,} bytes, code_bytes is {result.code_bytes}", path.name))
    if digest != result.code_hash:
        found.append(flagged("code", f"has SHA-256 {digest[:12]}, the run counted {result.code_hash[:12]}", path.name))
    return found


def _code(evidence: Evidence, code: tuple[str, int], artifact_bytes: int) -> list[Finding]:
    result, (digest, size) = evidence.result, code
    same = digest == result.code_hash
    total = artifact_bytes + (size if same else result.code_bytes)
    said = f"{total:,} bytes, {artifact_bytes:,} of the artifact and {total - artifact_bytes:,} of the code"
    if same and size != result.code_bytes:
        counted = flagged(
            "V10", f"is {result.code_bytes}, the same code has {size} bytes here", "result.json code_bytes"
        )
    elif total > SIZE_LIMIT_BYTES:
        counted = flagged("V10", f"{said}; the limit is {SIZE_LIMIT_BYTES:,}")
    elif same:
        counted = passed("V10", said)
    else:
        counted = unknown("V10", f"{said}, as the run says: its code is not the one that is installed")
    if same:
        return [counted, passed("code", f"SHA-256 {digest[:12]}")]
    why = f"the installed code has SHA-256 {digest[:12]}, the run's had {result.code_hash[:12] or 'none on record'}"
    return [counted, unknown("code", f"{why}: losses may differ for that reason")]


def recipe(evidence: Evidence) -> list[Finding]:
    """Whether the header of the artifact is what the settings ask for."""
    artifact, config, path = evidence.artifact, evidence.config, evidence.paths.artifact
    if isinstance(artifact, Missing):
        return [unknown("settings", artifact.why)]
    try:
        model = from_plain(ModelConfig, artifact.model_config, path, "model")
    except InputError as error:
        return [flagged("settings", str(error))]
    found = []
    for field in dataclasses.fields(ModelConfig):
        held, wanted = getattr(model, field.name), getattr(config.model, field.name)
        if held != wanted:
            text = f"the artifact says {held}, the settings {wanted}"
            found.append(flagged("settings", text, f"model.{field.name}"))
    count = parameters.count(model)
    if count != evidence.result.params:
        found.append(flagged("result", f"is {evidence.result.params:,}, the model has {count:,}", "result.json params"))
    schedule, compress, notes = evidence.schedule, config.compress, artifact.header.compress
    gave_up = not isinstance(schedule, Missing) and schedule.gave_up_calibration
    done = compress.uncalibrated() if gave_up else compress
    for name, value in {"codec": done.codec, "level": done.zstd_level, "quantizer": done.quantizer}.items():
        if name in notes and notes[name] != value:
            found.append(
                flagged("settings", f"the artifact says {notes[name]}, the settings {value}", f"compress.{name}")
            )
    return found or [
        passed("settings", f"the artifact's header has the run's model and compression ({done.quantizer})")
    ]
