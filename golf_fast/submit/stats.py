"""What seeds reached, and whether it is less than others did: means, deviations, nats and bits, p values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from golf_fast.errors import InputError
from golf_fast.rules import RECORD_MARGIN_NATS, RECORD_P_VALUE
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.runs.documents import Documents
from golf_fast.runs.same_text import Shared, of_other_tokens, shared
from golf_fast.statistics import Sample, compare, seeds_needed


@dataclass(frozen=True)
class Scored:
    """What a run was scored on.

    Attributes:
        documents: None where the run recorded none.
    """

    name: str
    bytes: int
    tokens: int
    documents: Documents | None


@dataclass(frozen=True)
class Scores:
    """Bits per byte of runs or plain values.

    Attributes:
        scored: what the runs among them were scored on.
        bytes_per_token: where a run says it; None too where the tokens of two runs stand for different lengths.
    """

    sample: Sample
    names: tuple[str, ...]
    scored: tuple[Scored, ...]
    bytes_per_token: float | None

    def nats(self, bpb: float) -> float | None:
        """Bits per byte as nats a token."""
        return None if self.bytes_per_token is None else bpb * math.log(2) * self.bytes_per_token

    @property
    def fewest_bytes(self) -> float | None:
        """Bytes of a token in the run where they are fewest, by which a margin in nats is the most bits per byte."""
        return min((each.bytes / each.tokens for each in self.scored), default=self.bytes_per_token)


def read(given: Sequence[str]) -> Scores:
    """Scores of run directories and of plain values in bits per byte.

    Raises:
        InputError: what is neither, or a run without a score.
    """
    values, scored = list[float](), list[Scored]()
    for each in given:
        try:
            value = float(each)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and 0 < value < 100:
            values.append(value)
            continue
        if not RunPaths(Path(each)).result.is_file():
            raise InputError(
                f"{each or repr(each)}: is neither the directory of a run nor a number of bits per byte from 0 to 100"
            )
        run = FinishedRun(Path(each))
        result = run.result()
        if result.val_bpb is None or not result.val_bytes or not result.val_tokens:
            raise InputError(f"{each}: has no score; a run that has ended is needed")
        values.append(result.val_bpb)
        documents = run.documents() if run.paths.documents.exists() else None
        scored.append(Scored(each, result.val_bytes, result.val_tokens, documents))
    rates = {each.bytes / each.tokens for each in scored}
    return Scores(Sample(tuple(values)), tuple(given), tuple(scored), rates.pop() if len(rates) == 1 else None)


def one_text(scored: Sequence[Scored]) -> list[str]:
    """Sentences on runs whose tokens are not those of the first.

    Raises:
        InputError: a run was scored on another text, or nothing says that it was the same.
    """
    held: list[tuple[str, Shared]] = []
    for each in scored[1:]:
        first = scored[0]
        if each.documents and first.documents:
            held.append((each.name, shared(first.documents, each.documents, (first.name, each.name))))
        elif (each.bytes, each.tokens) != (first.bytes, first.tokens):
            without = each.name if first.documents else first.name
            raise InputError(
                f"{each.name}: was scored on other tokens than {first.name} ({each.tokens:,}, not {first.tokens:,}), "
                f"and {without} recorded no documents that would say that the text is the same; where its shards are "
                "still there, python -m golf_fast.report compare finds them"
            )
    return [each.whole(scored[0].name, names) for names, each in of_other_tokens(held)]


def report(ours: Scores, theirs: Scores | None, bytes_per_token: float | None = None) -> dict[str, Any]:
    """Everything that is known, as plain values; "bpb" are bits per byte, "nats" are nats a token.

    Args:
        bytes_per_token: turns bits per byte into nats a token where no run says it.

    Raises:
        InputError: runs were scored on different texts.
    """
    notes = one_text([*ours.scored, *(theirs.scored if theirs else ())])
    if not ours.scored:
        ours = replace(ours, bytes_per_token=(theirs.fewest_bytes if theirs else None) or bytes_per_token)
    rate = ours.fewest_bytes
    found: dict[str, Any] = {"ours": _summary(ours), "bytes_per_token": rate, "notes": notes}
    if theirs is None:
        return found
    if not theirs.scored:
        theirs = replace(theirs, bytes_per_token=rate)
    lower = theirs.sample.mean - ours.sample.mean
    found |= {
        "theirs": _summary(theirs),
        "lower_by_bpb": lower,
        "lower_by_nats": lower * math.log(2) * rate if rate else None,
        "tests": [],
    }
    margins = [0.0, *([RECORD_MARGIN_NATS] if rate else [])]
    for nats in margins:
        margin = nats / math.log(2) / rate if rate else 0.0
        test = compare(ours.sample, theirs.sample, margin)
        found["tests"].append(
            {"margin_nats": nats, "margin_bpb": margin}
            | (asdict(test) if test else {"p": None})
            | {"seeds_needed": seeds_needed(ours.sample, theirs.sample, RECORD_P_VALUE, margin)}
        )
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    said = [_line("ours", found["ours"])]
    if "theirs" not in found:
        return [*said, *found["notes"]]
    said.append(_line("theirs", found["theirs"]))
    of = " of ours" if found["notes"] else ""
    word, sign = ("higher", -1) if found["lower_by_bpb"] < 0 else ("lower", 1)
    nats = "" if found["lower_by_nats"] is None else f", {sign * found['lower_by_nats']:.5f} nats a token{of}"
    said.append(f"{word} by {sign * found['lower_by_bpb']:.5f} bits per byte{nats}")
    for test in found["tests"]:
        what = f"lower by more than {test['margin_nats']:g} nats" if test["margin_nats"] else "lower at all"
        if test["p"] is None:
            said.append(f"{what}: one value against one says nothing; more seeds are needed")
            continue
        needed = test["seeds_needed"]
        shown = f"{needed} seeds would show it at p < {RECORD_P_VALUE}"
        seeds = shown if needed else "no number of seeds would show it"
        freedom = f"{test['freedom']:.2f} degrees of freedom"
        said.append(f"{what}: t = {test['t']:.3f}, {freedom}, p = {test['p']:.3g}; {seeds}")
    if len(found["tests"]) == 1:
        said.append("the margin of a record is in nats: name a run, or --bytes-per-token")
    return [*said, *found["notes"]]


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
