"""What seeds reached, and whether it is less than others did: means, deviations, nats and bits, p values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golf_fast.errors import InputError
from golf_fast.rules import RECORD_MARGIN_NATS
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.statistics import Sample, compare, seeds_needed

RECORD_P = 0.01


@dataclass(frozen=True)
class Scores:
    """Bits per byte of runs or plain values, and the bytes of a token where a run says them."""

    sample: Sample
    names: tuple[str, ...]
    bytes_per_token: float | None

    def nats(self, bpb: float) -> float | None:
        """Bits per byte as nats a token."""
        return None if self.bytes_per_token is None else bpb * math.log(2) * self.bytes_per_token


def read(given: Sequence[str]) -> Scores:
    """Scores of run directories and of plain values in bits per byte.

    Raises:
        InputError: what is neither, a run without a score, or runs on different texts.
    """
    values, rates = [], set[float]()
    for each in given:
        try:
            value = float(each)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and 0 < value < 100:
            values.append(value)
            continue
        if not RunPaths(Path(each)).result.is_file():
            raise InputError(f"{each}: is neither the directory of a run nor a number of bits per byte from 0 to 100")
        result = FinishedRun(Path(each)).result()
        if result.val_bpb is None or not result.val_bytes or not result.val_tokens:
            raise InputError(f"{each}: has no score; a run that has ended is needed")
        values.append(result.val_bpb)
        rates.add(result.val_bytes / result.val_tokens)
    if len(rates) > 1:
        raise InputError(f"{', '.join(given)}: were scored on different texts, and cannot be compared")
    return Scores(Sample(tuple(values)), tuple(given), next(iter(rates), None))


def report(ours: Scores, theirs: Scores | None, bytes_per_token: float | None = None) -> dict[str, Any]:
    """Everything that is known, as plain values; "bpb" are bits per byte, "nats" are nats a token.

    Args:
        bytes_per_token: turns bits per byte into nats a token where no run says it.
    """
    rate = ours.bytes_per_token or (theirs and theirs.bytes_per_token) or bytes_per_token
    ours = Scores(ours.sample, ours.names, rate)
    found: dict[str, Any] = {"ours": _summary(ours), "bytes_per_token": rate}
    if theirs is None:
        return found
    theirs = Scores(theirs.sample, theirs.names, rate)
    lower = theirs.sample.mean - ours.sample.mean
    found |= {"theirs": _summary(theirs), "lower_by_bpb": lower, "lower_by_nats": ours.nats(lower), "tests": []}
    margins = [0.0, *([RECORD_MARGIN_NATS] if rate else [])]
    for nats in margins:
        margin = nats / math.log(2) / rate if rate else 0.0
        test = compare(ours.sample, theirs.sample, margin)
        found["tests"].append(
            {"margin_nats": nats, "margin_bpb": margin}
            | (asdict(test) if test else {"p": None})
            | {"seeds_needed": seeds_needed(ours.sample, theirs.sample, RECORD_P, margin)}
        )
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    said = [_line("ours", found["ours"])]
    if "theirs" not in found:
        return said
    said.append(_line("theirs", found["theirs"]))
    nats = "" if found["lower_by_nats"] is None else f", {found['lower_by_nats']:.5f} nats a token"
    said.append(f"lower by {found['lower_by_bpb']:.5f} bits per byte{nats}")
    for test in found["tests"]:
        what = f"lower by more than {test['margin_nats']:g} nats" if test["margin_nats"] else "lower at all"
        if test["p"] is None:
            said.append(f"{what}: one value against one says nothing; more seeds are needed")
            continue
        needed = test["seeds_needed"]
        seeds = f"{needed} seeds would show it at p < {RECORD_P}" if needed else "no number of seeds would show it"
        said.append(f"{what}: t = {test['t']:.3f}, {test['freedom']:.2f} degrees, p = {test['p']:.3g}; {seeds}")
    if len(found["tests"]) == 1:
        said.append("the margin of a record is in nats: name a run, or --bytes-per-token")
    return said


def _summary(scores: Scores) -> dict[str, Any]:
    sample = scores.sample
    return {
        "names": list(scores.names),
        "n": sample.n,
        "values": list(sample.values),
        "mean_bpb": sample.mean,
        "std_bpb": sample.std,
        "mean_nats": scores.nats(sample.mean),
        "std_nats": None if sample.std is None else scores.nats(sample.std),
    }


def _line(name: str, found: dict[str, Any]) -> str:
    spread = "" if found["std_bpb"] is None else f" ± {found['std_bpb']:.5f}"
    nats = "" if found["mean_nats"] is None else f", {found['mean_nats']:.5f} nats a token"
    if nats and found["std_nats"] is not None:
        nats += f" ± {found['std_nats']:.5f}"
    return f"{name}: n = {found['n']}, {found['mean_bpb']:.5f}{spread} bits per byte{nats}"
