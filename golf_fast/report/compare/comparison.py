"""What differs between runs, read from their directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf_fast.errors import InputError
from golf_fast.report.compare.bootstrap import Column, Difference, differences
from golf_fast.report.compare.seeds import Seeds, seeds
from golf_fast.report.html import as_object, flat
from golf_fast.runs import FinishedRun
from golf_fast.runs.documents import Documents

_TOKENS_AT_A_TIME = 1 << 24
_NOT_COMPARED = {"run_id", "runs_dir", "track", "profile", "file_hashes"}
"""Fields of the settings and the result that say which run it is, where, and who looked at it, and not what it is."""


@dataclass(frozen=True)
class Row:
    """A field whose value is not the same in all runs.

    Attributes:
        name: dotted.
        values: of each run, as in its file; None where it has none.
    """

    name: str
    values: list[Any]


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another.

    Attributes:
        names: of the runs, each another; the first is what the others are compared with.
        settings, results: the fields that differ.
        differences: of every other run against the first.
        seeds: groups of runs that differ by their seed only, where there are such.
        without: why there are no differences; "" where there are.
        records: the metrics of each run.
    """

    names: list[str]
    settings: list[Row]
    results: list[Row]
    differences: list[Difference]
    seeds: list[Seeds]
    without: str
    records: list[list[dict[str, Any]]]

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the metrics."""
        held = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "records"}
        for name in ("settings", "results"):
            held[name] = {row.name: row.values for row in held[name]}
        held["differences"] = [dataclasses.asdict(each) | {"sure": each.sure} for each in self.differences]
        held["seeds"] = [dataclasses.asdict(each) for each in self.seeds]
        return held


def compare(folders: Sequence[Path], of_an_earlier_version: Callable[[FinishedRun], Documents]) -> Comparison:
    """Put runs beside one another.

    Args:
        folders: of at least two runs, finished or not.
        of_an_earlier_version: finds the documents of a run that did not record them.

    Raises:
        InputError: a folder is no run or holds what no run writes; or the runs were scored on different tokens.
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} run directory: at least 2 are needed to compare")
    runs = [FinishedRun(folder) for folder in folders]
    for run in runs:
        if not run.paths.config.is_file():
            raise InputError(f"{run.paths.folder}: has no {run.paths.config.name}; name the directory of a run")
    names = _names(folders)
    results = [run.as_written(run.paths.result) for run in runs]
    settings = [_compared(flat(_settings(run))) for run in runs]
    lacking = [name for name, run in zip(names, runs, strict=True) if not run.paths.token_losses.exists()]
    without = f"there is no interval: {', '.join(lacking)} left no loss of each token" if lacking else ""
    found = [] if lacking else _differences(names, runs, of_an_earlier_version)
    return Comparison(
        names,
        _rows(settings),
        _rows([_compared(flat(result)) for result in results]),
        found,
        seeds(names, settings, [result.get("val_bpb") for result in results]),
        without,
        [run.records() for run in runs],
    )


def _settings(run: FinishedRun) -> dict[str, Any]:
    """With the meaning of what an older version did not know; as it is written, where a newer one knew more."""
    try:
        return run.config.as_dict()
    except InputError:
        return as_object(run.as_written(run.paths.config).get("config"))


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their whole paths where two have the same."""
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


def _rows(held: Sequence[dict[str, Any]]) -> list[Row]:
    """The fields with more than one value, in the order in which they come first."""
    names = dict.fromkeys(name for each in held for name in each)
    rows = [Row(name, [each.get(name) for each in held]) for name in names]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def _differences(
    names: Sequence[str], runs: Sequence[FinishedRun], of_an_earlier_version: Callable[[FinishedRun], Documents]
) -> list[Difference]:
    documents = [run.documents() if run.paths.documents.exists() else of_an_earlier_version(run) for run in runs]
    first = documents[0]
    for name, run, each in zip(names, runs, documents, strict=True):
        size = run.paths.token_losses.stat().st_size
        if size != 4 * each.targets:
            raise InputError(f"{run.paths.token_losses}: has {size} bytes; {each.targets} losses have 4 each")
        if (each.tokens_sha256, each.starts, each.bytes) != (first.tokens_sha256, first.starts, first.bytes):
            raise InputError(
                f"{name}: was scored on other validation tokens ({each.targets:,}, SHA-256 {each.tokens_sha256[:12]}) "
                f"than {names[0]} ({first.targets:,}, {first.tokens_sha256[:12]}); only the same can be compared"
            )
    sums = [_nats(run, each) for run, each in zip(runs, documents, strict=True)]
    return differences(names, sums, np.array(first.bytes, np.int64))


def _nats(run: FinishedRun, documents: Documents) -> Column:
    """The loss of each document, in nats, `[documents]`; the file is read in pieces of whole documents."""
    starts = np.array([*documents.starts, documents.targets])
    sums = np.empty(len(documents.starts))
    first = 0
    while first < len(sums):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _TOKENS_AT_A_TIME, side="right")) - 1)
        losses = run.losses_between(run.paths.token_losses, int(starts[first]), int(starts[last]))
        if len(losses) < starts[last] - starts[first]:
            raise InputError(f"{run.paths.token_losses}: became shorter while it was read")
        sums[first:last] = np.add.reduceat(losses, starts[first:last] - starts[first], dtype=np.float64)
        first = last
    if not np.isfinite(sums).all():
        raise InputError(f"{run.paths.token_losses}: holds a loss that is no finite number")
    return sums
