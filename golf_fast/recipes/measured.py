"""Recorded results of runs of the recipes, in measured.jsonl, which `python -m benchmarks recipes` writes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from golf_fast import json_files
from golf_fast.command_line import differences
from golf_fast.config import RunConfig
from golf_fast.from_plain import from_plain
from golf_fast.statistics import Interval, mean_interval

PATH = Path(__file__).with_name("measured.jsonl")
_PLACES = ("run_id", "runs_dir", "device", "track", "profile", "seed")
"""Fields that say where and how often a recipe is run, and not what it computes."""
_STAGE_PLACES = ("train.checkpoint_", "data.shards", "data.tokenizer", "data.built")
"""Prefixes of dotted fields of that kind."""


@dataclass(frozen=True)
class Measured:
    """A finished run of an unchanged recipe."""

    recipe: str
    settings: str
    """`settings_hash` of the recipe at the time of the run."""
    seed: int
    time: str
    """Time of the record, ISO 8601."""
    command: str
    commit: str
    """Commit of the checkout, with a + if there were uncommitted changes."""
    device: str
    """Name of the device in the run's result."""
    cpu: str
    """Name of the processor."""
    world_size: int
    versions: dict[str, str]
    data: str
    """Name of the folder of the validation shards."""
    steps: int
    train_seconds: float
    params: int
    bpb: float
    """The score, in bits per byte."""
    bpb_without_adapting: float | None
    bpb_before_compression: float | None
    artifact_bytes: int
    code_bytes: int
    legal: bool
    violations: list[str]
    not_judged: list[str]

    @property
    def total_bytes(self) -> int:
        return self.artifact_bytes + self.code_bytes

    @property
    def text(self) -> str:
        """The text that was scored, whatever the tokenizer: the challenge's, or the documentation of a Python
        version."""
        corpus = re.split("[-_]", self.data)[0]
        return f"{corpus} {self.versions.get('python', '')}" if corpus == "embedded" else corpus


@dataclass(frozen=True)
class Group:
    """Runs of one recipe with different seeds, by the same code on the same machine and data."""

    runs: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        """The first run, for the properties that all have in common."""
        return self.runs[0]

    @cached_property
    def bpb(self) -> Interval:
        """Mean of the scores with its 95 % interval."""
        return mean_interval([run.bpb for run in self.runs])

    @property
    def total_bytes(self) -> int:
        """Mean size of artifact and code in bytes."""
        return round(fmean(run.total_bytes for run in self.runs))

    @property
    def legal(self) -> bool:
        return all(run.legal for run in self.runs)

    def mean(self, name: str) -> float | None:
        """The mean of a field; None if a run lacks it."""
        values = [getattr(run, name) for run in self.runs]
        return None if None in values else fmean(values)


def read(path: Path = PATH) -> list[Measured]:
    """The lines of the record in order; an empty list if there is no file.

    Raises:
        InputError: a line is no record of this kind.
    """
    if not path.exists():
        return []
    return [
        from_plain(Measured, held, Path(f"{path}: line {number}"), lenient=True)
        for number, held in json_files.lines(path, "a record of measured recipes is needed")
    ]


def newest(runs: Iterable[Measured], recipe: str, settings: str) -> Group | None:
    """The group of the newest run of a recipe with these settings; of a seed that ran twice it has the later run."""
    own = [run for run in runs if (run.recipe, run.settings) == (recipe, settings)]
    if not own:
        return None
    last = max(own, key=lambda run: run.time)
    alike = {run.seed: run for run in sorted(own, key=lambda run: run.time) if _kind(run) == _kind(last)}
    return Group(tuple(alike[seed] for seed in sorted(alike)))


def _kind(run: Measured) -> Sequence[object]:
    return (run.commit, run.device, run.cpu, run.world_size, sorted(run.versions.items()), run.data)


def difference(ours: Group | None, theirs: Group | None) -> Interval | None:
    """Our bits per byte minus theirs, paired by seed; None if they were measured on different texts or machines."""
    if ours is None or theirs is None:
        return None
    if any(getattr(ours.first, name) != getattr(theirs.first, name) for name in ("text", "cpu", "device")):
        return None
    other = {run.seed: run.bpb for run in theirs.runs}
    each = [run.bpb - other[run.seed] for run in ours.runs if run.seed in other]
    return mean_interval(each) if each else None


def settings_hash(config: RunConfig) -> str:
    """A hash of the settings of a recipe, 12 hexadecimal digits; fields that were added later do not change it."""
    own = {field: value for field, (value, _) in differences(config, RunConfig()).items() if not is_place(field)}
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:12]


def is_place(field: str) -> bool:
    """Whether a dotted field only says where and how often a recipe is run."""
    return field in _PLACES or field.startswith(_STAGE_PLACES)
