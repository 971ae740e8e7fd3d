"""What differs between runs, read from their directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf_fast.errors import InputError
from golf_fast.report.compare.bootstrap import Difference, differences
from golf_fast.report.compare.outcomes import Reached, reached
from golf_fast.report.compare.seeds import Seeds, seeds
from golf_fast.report.html import as_object, flat
from golf_fast.runs import FinishedRun
from golf_fast.runs.documents import Documents
from golf_fast.runs.same_text import Shared, of_other_tokens, shared

_NOT_COMPARED = {"run_id", "runs_dir", "track", "profile", "file_hashes"}
"""Fields of the settings and the result that identify a run or its place on the machine and do not affect what it
computes."""


@dataclass(frozen=True)
class Row:
    """A field whose value is not the same in all runs.

    Attributes:
        name: dotted name of the field.
        values: value in each run, as its file has it; None where a run does not have the field.
    """

    name: str
    values: list[Any]


@dataclass(frozen=True)
class Comparison:
    """The comparison of several runs.

    Attributes:
        names: distinct name of each run; the others are compared with the first.
        reached: score, size and verdict of each run.
        settings, results: fields of the settings and of the results that differ between runs.
        differences: difference in bits per byte between each other run and the first, over the documents that both were
            scored on.
        shared: documents that each of `differences` covers.
        seeds: groups of runs that differ by their seed only; empty where no two runs do.
        notes: sentences on which text is compared, for runs with other tokens than the first.
        without: reason why some or all runs have no entry in `differences`; "" where all have one.
        token_bytes: bytes of validation text that a token stands for in each run, where the tokens of the runs are not
            the same, None for a run that does not say it; empty where they are the same.
        records: records of the metrics of each run.
    """

    names: list[str]
    reached: list[Reached]
    settings: list[Row]
    results: list[Row]
    differences: list[Difference]
    shared: list[Shared]
    seeds: list[Seeds]
    notes: list[str]
    without: str
    token_bytes: list[float | None]
    records: list[list[dict[str, Any]]]

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, ready for JSON, without the metrics."""
        held = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "records"}
        for name in ("settings", "results"):
            held[name] = {row.name: row.values for row in held[name]}
        held["differences"] = [
            dataclasses.asdict(each)
            | {
                "sure": each.sure,
                "same_by": both.known_by,
                "scored_bytes": both.scored,
                "scored_documents": both.counts,
            }
            for each, both in zip(self.differences, self.shared, strict=True)
        ]
        del held["shared"]
        held["reached"] = [dataclasses.asdict(each) for each in self.reached]
        held["seeds"] = [dataclasses.asdict(each) for each in self.seeds]
        return held


def compare(folders: Sequence[Path], of_an_earlier_version: Callable[[FinishedRun], Documents]) -> Comparison:
    """Compare runs with the first of them.

    Args:
        folders: directories of at least two runs, finished or not.
        of_an_earlier_version: function that finds the documents of a run that did not record them.

    Raises:
        InputError: a folder is not the directory of a run, a file in it is damaged, or the runs were scored on
            different texts.
    """
    if len(folders) < 2:
        count = "1 run directory is" if folders else "no run directory is"
        raise InputError(f"{count} named: at least 2 are needed to compare")
    runs = [FinishedRun(folder) for folder in folders]
    for run in runs:
        if not run.paths.config.is_file():
            raise InputError(f"{run.paths.folder}: has no {run.paths.config.name}; name the directory of a run")
    names = _names(folders)
    results = [run.as_written(run.paths.result) for run in runs]
    settings = [_compared(flat(_settings(run))) for run in runs]
    scored, lacking = _scored(names, runs, of_an_earlier_version)
    found, held = _differences(scored) if scored and scored[0].name == names[0] else ([], [])
    unlike = of_other_tokens((each.run, its) for each, its in zip(found, held, strict=True))
    return Comparison(
        names,
        [reached(*each) for each in zip(names, results, settings, strict=True)],
        _rows(settings),
        _rows([_compared(flat(result)) for result in results], [set(result) for result in results]),
        found,
        held,
        seeds(names, settings, [result.get("val_bpb") for result in results]),
        [each.compared(names[0], joined) for joined, each in unlike],
        "; ".join(lacking),
        _token_bytes(names, settings, results, scored),
        [run.records() for run in runs],
    )


def _settings(run: FinishedRun) -> dict[str, Any]:
    """The settings of a run by name: with the defaults for fields that an older version did not write; as they are
    written, where a newer version wrote fields that this one does not have."""
    try:
        return run.config.as_dict()
    except InputError:
        held = as_object(run.as_written(run.paths.config).get("config"))
        if not held:
            raise
        return held


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths where two folders have the same name."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    paths = [str(folder) for folder in folders]
    twice = next((path for path in paths if paths.count(path) > 1), "")
    if twice:
        raise InputError(f"{twice}: is named twice; name each run once")
    return paths


def _compared(held: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name.partition(".")[0] not in _NOT_COMPARED}


def _rows(held: Sequence[dict[str, Any]], known: Sequence[set[str]] | None = None) -> list[Row]:
    """The fields with more than one value, in the order of their first appearance.

    Args:
        held: fields of each run, by dotted name.
        known: names, up to the first dot, of the fields that each run records. A field that a run does not record, as
            it is of an earlier version or has no result, is no difference. None: every run records all fields.
    """
    rows = []
    for name in dict.fromkeys(name for each in held for name in each):
        values = [each.get(name) for each in held]
        told = values
        if known is not None:
            told = [value for value, its in zip(values, known, strict=True) if name.partition(".")[0] in its]
        if any(value != told[0] for value in told):
            rows.append(Row(name, values))
    return rows


@dataclass(frozen=True)
class _Scored:
    """A run that left the loss of each token."""

    name: str
    run: FinishedRun
    documents: Documents


def _scored(
    names: Sequence[str], runs: Sequence[FinishedRun], of_an_earlier_version: Callable[[FinishedRun], Documents]
) -> tuple[list[_Scored], list[str]]:
    """The runs that can be compared by document, and for the others sentences on why they cannot."""
    found, without, lost = list[_Scored](), list[str](), list[str]()
    for name, run in zip(names, runs, strict=True):
        if not run.paths.token_losses.exists():
            without.append(name)
        elif run.paths.documents.exists():
            found.append(_Scored(name, run, run.documents()))
        else:
            try:
                found.append(_Scored(name, run, of_an_earlier_version(run)))
            except InputError as error:
                lost.append(f"there is no interval: {name} left no documents, and they cannot be found again: {error}")
    lacking = [f"there is no interval: {', '.join(without)} left no loss of each token"] if without else []
    if len({each.documents.tokens_sha256 for each in found}) > 1:
        found = [each if each.documents.texts else _hashed(each, of_an_earlier_version) for each in found]
    return found, [*lacking, *lost]


def _hashed(held: _Scored, of_an_earlier_version: Callable[[FinishedRun], Documents]) -> _Scored:
    """A run with the hashes of its documents, if its shards are still there to compute them from; else unchanged."""
    try:
        found = of_an_earlier_version(held.run)
    except InputError:
        return held
    same = found.tokens_sha256 == held.documents.tokens_sha256
    return dataclasses.replace(held, documents=found) if same else held


def _differences(scored: Sequence[_Scored]) -> tuple[list[Difference], list[Shared]]:
    """The difference of every run from the first, and the documents that each difference covers."""
    first, *others = scored
    held = [shared(first.documents, each.documents, (first.name, each.name)) for each in others]
    sums = [each.run.document_losses(each.documents) for each in scored]
    sizes = np.array(first.documents.bytes, np.int64)
    found: dict[str, Difference] = {}
    for documents in dict.fromkeys(each.documents for each in held):
        places = [place for place, each in enumerate(held) if each.documents == documents]
        chosen = np.array(documents)
        columns = [sums[0][chosen], *(sums[place + 1][chosen] for place in places)]
        names = [first.name, *(others[place].name for place in places)]
        found |= {each.run: each for each in differences(names, columns, sizes[chosen])}
    return [found[each.name] for each in others], held


def _token_bytes(
    names: Sequence[str],
    settings: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
    scored: Sequence[_Scored],
) -> list[float | None]:
    """Bytes of validation text that a token stands for in each run; empty where all have the same tokens."""
    documents = {each.name: each.documents for each in scored}
    tokens = {each.tokens_sha256 for each in documents.values()}
    asked = [
        str([(name, value) for name, value in held.items() if name.startswith("data.") or name == "model.vocab_size"])
        for held in settings
    ]
    if len(tokens) < 2 and (len(documents) == len(names) or len(set(asked)) < 2):
        return []
    rates = [_rate(result, documents.get(name)) for name, result in zip(names, results, strict=True)]
    known = {data: rate for data, rate in zip(asked, rates, strict=True) if rate}  # a run that was cut short says none
    return [rate or known.get(data) for data, rate in zip(asked, rates, strict=True)]


def _rate(result: dict[str, Any], documents: Documents | None) -> float | None:
    """Bytes of validation text for each token, from the documents of a run or else from its result; None if neither
    says it."""
    size, count = result.get("val_bytes"), result.get("val_tokens")
    if documents is not None:
        size, count = sum(documents.bytes), documents.targets
    return size / count if isinstance(size, int) and isinstance(count, int) and count > 0 else None
