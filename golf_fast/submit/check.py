"""A record folder, ours or a stranger's, against what it says of itself; nothing is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from golf_fast import json_files
from golf_fast.audit.script.judge import judge
from golf_fast.audit.script.unpack import Source, of_text
from golf_fast.compress import read_artifact
from golf_fast.errors import InputError, printable
from golf_fast.files import read_bytes
from golf_fast.rules import SIZE_LIMIT_BYTES, TRAIN_LIMIT_SECONDS
from golf_fast.submit import schema
from golf_fast.submit.schema import ARTIFACT, FOLDER_NAME, README, SCRIPT, SUBMISSION, Published, Submission
from golf_fast.submit.single_file import packed

Outcome = Literal["pass", "flag", "unknown"]
_MOST_BYTES = 64 << 20
_SCORE = re.compile(rb"val_bpb[:=]\s*([0-9]+\.[0-9]+)")
_CODE_SIZE = re.compile(rb"Code size[^:\n]*: *([0-9]+) bytes")
_TIME = re.compile(rb"train_time: *([0-9]+)ms")
_LOG = re.compile(r".*train.*\.(log|txt)")


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    outcome: Outcome
    text: str


def check(folder: Path) -> list[Finding]:
    """Everything that a folder says of itself, against what is in it.

    Raises:
        InputError: it is no folder, or has no submission.json that could be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the folder of a record")
    held = json_files.read_object(folder / SUBMISSION, "the submission.json of a record is needed")
    return [*_files(folder), *_all_of(folder, held)]


def _all_of(folder: Path, held: dict[str, Any]) -> Iterator[Finding]:
    try:
        said = schema.parse(held, SUBMISSION)
    except InputError as error:
        yield Finding("schema", "flag", str(error))
        return
    kind = "this package's" if isinstance(said, Submission) else "published folders'"
    yield Finding("schema", "pass", f"{SUBMISSION} has the fields of {kind}")
    logs = {path.relative_to(folder): _read(path) for path in sorted(folder.rglob("*")) if _is_log(path)}
    yield from _sizes(folder, said)
    yield from _scores(logs, held, said)
    yield from _times(logs)
    yield from _code(folder, logs, said)
    yield from _script(folder)


def _is_log(path: Path) -> bool:
    return path.is_file() and _LOG.fullmatch(path.name) is not None


def _read(path: Path) -> bytes:
    return read_bytes(path, "a file of the folder is needed", _MOST_BYTES)


def _files(folder: Path) -> Iterator[Finding]:
    if FOLDER_NAME.fullmatch(folder.resolve().name):
        yield Finding("name", "pass", "a date and a name")
    else:
        yield Finding("name", "flag", f"{folder.resolve().name} is not YYYY-MM-DD_name")
    missing = [name for name in (README, SCRIPT) if not (folder / name).is_file()]
    if not any(_is_log(path) for path in folder.rglob("*")):
        missing.append("a train log")
    if missing:
        yield Finding("files", "flag", f"there is no {', no '.join(missing)}")
    else:
        yield Finding("files", "pass", f"{README}, {SUBMISSION}, {SCRIPT} and logs are there")


def _sizes(folder: Path, said: Submission | Published) -> Iterator[Finding]:
    """V10: what is said of bytes, against the files and the limit."""
    total, code = said.bytes_total, said.bytes_code
    if not isinstance(total, int):
        yield Finding("size", "unknown", f"{SUBMISSION} has no bytes_total")
        return
    if isinstance(said, Submission):
        if not schema.fits(max(total, said.bytes_total_max)) and said.record:
            most = max(total, said.bytes_total_max)
            yield Finding("size", "flag", f"{most:,} bytes; the limit is {SIZE_LIMIT_BYTES:,}")
        script, artifact = (folder / name for name in (SCRIPT, ARTIFACT))
        sizes = [path.stat().st_size if path.is_file() else -1 for path in (script, artifact)]
        for name, wanted, size in zip((SCRIPT, ARTIFACT), (said.bytes_code, said.bytes_model), sizes, strict=True):
            if size != wanted:
                yield Finding("size", "flag", f"{name} has {size:,} bytes, {SUBMISSION} says {wanted:,}")
        outcome: Outcome = "pass" if total == sum(sizes) else "flag"
        yield Finding("size", outcome, f"{sum(sizes):,} bytes in the folder, {total:,} in {SUBMISSION}")
        yield _artifact(artifact, said)
        return
    if total > SIZE_LIMIT_BYTES:
        yield Finding("size", "flag", f"bytes_total is {total:,}; the limit is {SIZE_LIMIT_BYTES:,}")
    else:
        yield Finding("size", "pass", f"bytes_total is {total:,}, at most {SIZE_LIMIT_BYTES:,}")
    script = folder / SCRIPT
    if isinstance(code, int) and script.is_file():
        size = script.stat().st_size
        text = f"{SCRIPT} has {size:,} bytes, bytes_code is {code:,}"
        yield Finding("code size", "pass" if size == code else "flag" if size > code else "unknown", text)


def _artifact(path: Path, said: Submission) -> Finding:
    if not path.is_file():
        return Finding("artifact", "flag", f"there is no {ARTIFACT}")
    digest = hashlib.sha256(_read(path)).hexdigest()
    if digest != said.artifact_sha256:
        return Finding("artifact", "flag", f"{ARTIFACT} has SHA-256 {digest[:12]}, not {said.artifact_sha256[:12]}")
    try:
        read_artifact(path)
    except InputError as error:
        return Finding("artifact", "flag", str(error))
    return Finding("artifact", "pass", f"SHA-256 {digest[:12]}, and it can be read")


def _scores(logs: dict[Path, bytes], held: dict[str, Any], said: Submission | Published) -> Iterator[Finding]:
    """The scores that are said, against those in the logs, to the digits that a log has."""
    found = {path: _SCORE.findall(content) for path, content in logs.items()}
    seeds = held.get("seed_results")
    if not isinstance(seeds, dict) or not seeds:
        ends = [value for values in found.values() for value in values[-4:]]
        if not ends:
            yield Finding("scores", "unknown", "the logs have no val_bpb")
        elif any(_same(said.val_bpb, value) for value in ends):
            yield Finding("scores", "pass", f"val_bpb {said.val_bpb:g} is at the end of a log")
        else:
            last = [float(values[-1]) for values in found.values() if values]
            mean = fmean(last)
            outcome: Outcome = "pass" if abs(mean - said.val_bpb) < 6e-5 else "flag"
            yield Finding("scores", outcome, f"val_bpb is {said.val_bpb:g}, the logs end at a mean of {mean:.5f}")
        return
    means = []
    for seed, result in seeds.items():
        value = result.get("val_bpb") if isinstance(result, dict) else None
        if not isinstance(value, float):
            yield Finding("scores", "unknown", f"seed {printable(str(seed)[:20])} has no val_bpb")
            continue
        means.append(value)
        own = [path for path in found if re.search(rf"(?<!\d){re.escape(str(seed))}(?!\d)", path.stem)]
        values = [text for path in own for text in found[path]]
        if not values:
            yield Finding("scores", "unknown", f"seed {printable(str(seed)[:20])} has no log with a val_bpb")
        elif any(_same(value, text) for text in values):
            yield Finding("scores", "pass", f"seed {seed}: val_bpb {value:g} is in {own[0]}")
        else:
            yield Finding("scores", "flag", f"seed {seed}: val_bpb is {value:g}, the log ends at {float(values[-1]):g}")
    if means and len(means) == len(seeds):
        mean = fmean(means)
        outcome = "pass" if abs(mean - said.val_bpb) < 6e-5 else "flag"
        yield Finding("scores", outcome, f"val_bpb is {said.val_bpb:g}, the mean of the seeds {mean:.8g}")


def _same(value: float, text: bytes) -> bool:
    """Whether a number in a log is the value, to the digits that both have (at least three)."""
    digits = min(len(text.partition(b".")[2]), len(repr(value).partition(".")[2]))
    return digits >= 3 and abs(float(text) - value) <= 1.01 * 10.0**-digits  # rounded, or cut off


def _times(logs: dict[Path, bytes]) -> Iterator[Finding]:
    """V11: the longest time of training that the logs have."""
    longest = {path: max(map(int, _TIME.findall(content)), default=None) for path, content in logs.items()}
    known = {path: time for path, time in longest.items() if time is not None}
    if not known:
        yield Finding("time", "unknown", "the logs do not say how long training took")
        return
    path = max(known, key=lambda each: known[each])
    text = f"training took {known[path] / 1e3:.3f} s at the most ({path}), the limit is {TRAIN_LIMIT_SECONDS:g} s"
    yield Finding("time", "flag" if known[path] > 1000 * TRAIN_LIMIT_SECONDS else "pass", text)


def _code(folder: Path, logs: dict[Path, bytes], said: Submission | Published) -> Iterator[Finding]:
    """V14: whether the seeds had one code, and it is the one in the folder."""
    script = folder / SCRIPT
    if not script.is_file():
        return
    content = _read(script)
    if isinstance(said, Submission):
        digest = hashlib.sha256(content).hexdigest()
        same = digest == said.code_sha256
        text = f"{SCRIPT} has SHA-256 {digest[:12]}, {SUBMISSION} says {said.code_sha256[:12]}"
        yield Finding("code", "pass" if same else "flag", text)
        return
    sizes = {path: {int(size) for size in _CODE_SIZE.findall(log)} for path, log in logs.items()}
    known = {path: size for path, size in sizes.items() if size}
    if not known:
        yield Finding("code", "unknown", "the logs do not say how many bytes of code ran")
        return
    common = set.intersection(*known.values())
    if not common:
        shown = ", ".join(f"{path} {sorted(size)}" for path, size in known.items())
        yield Finding("code", "flag", f"the logs are of code of different sizes: {shown}")
        return
    ran = ", ".join(f"{size:,}" for size in sorted(common))
    text = f"all logs are of {ran} bytes of code, {SCRIPT} has {len(content):,}"
    yield Finding("code", "pass" if len(content) in common else "unknown", text)


def _script(folder: Path) -> Iterator[Finding]:
    """The judge of scripts on the script; of a file of this package, what is packed in it."""
    script = folder / SCRIPT
    if not script.is_file():
        return
    try:
        source = built_source(script, _read(script))
        verdict = judge(script, source=source)
    except InputError as error:
        yield Finding("script", "unknown", str(error))
        return
    for finding in verdict.findings:
        if finding.outcome == "flag":
            yield Finding("script", "flag", f"{finding.rule}: {finding.text}")
    if not verdict.flagged:
        of = " in what is packed in this built file; an audit of the run says whether it was legal" if source else ""
        yield Finding("script", "pass", f"the judge of scripts flags nothing{of}")


def built_source(path: Path, content: bytes) -> Source | None:
    """The source that is packed in a built file of this package; None for another script. Nothing of it is run.

    Raises:
        InputError: what is packed in it is damaged.
    """
    files = packed(content)
    if files is None:
        return None
    text = "\n".join(files[name] for name in sorted(files) if name.endswith(".py"))
    return of_text(path, text, len(content), "a built file of golf_fast")


def as_json(folder: Path, findings: list[Finding]) -> dict[str, Any]:
    """Plain values."""
    return {
        "folder": str(folder),
        "flagged": sorted({finding.check for finding in findings if finding.outcome == "flag"}),
        "findings": [asdict(finding) for finding in findings],
    }


def lines(folder: Path, findings: list[Finding]) -> list[str]:
    """For people."""
    shown = [f"{finding.check:10}  {finding.outcome:7}  {printable(finding.text)}" for finding in findings]
    flagged = sorted({finding.check for finding in findings if finding.outcome == "flag"})
    return [printable(folder), *shown, f"flagged: {', '.join(flagged)}" if flagged else "nothing was flagged"]
