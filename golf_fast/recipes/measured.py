"""What runs of the recipes reached: a line for each in measured.jsonl, which `python -m benchmarks recipes` writes."""

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
"""Fields that say where and how often a recipe is run."""
_STAGE_PLACES = ("train.checkpoint_", "data.shards", "data.tokenizer", "data.built")
"""Beginnings of dotted fields of that kind."""


@dataclass(frozen=True)
class Measured:
    """A finished run of a recipe as it is."""

    recipe: str
    settings: str
    """`settings_hash` of the recipe when it ran."""
    seed: int
    time: str
    """When it was recorded, ISO 8601."""
    command: str
    commit: str
    """Of the checkout, with a + if it was changed since."""
    device: str
    """As the run names it."""
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
        """What text was scored, whatever the tokens: the challenge's documents, or those of a version of Python."""
        corpus = re.split("[-_]", self.data)[0]
        return f"{corpus} {self.versions.get('python', '')}" if corpus == "embedded" else corpus


@dataclass(frozen=True)
class Group:
    """Runs of one recipe by the same code on the same machine and data, a seed each."""

    runs: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        """One that stands for what they have in common."""
        return self.runs[0]

    @cached_property
    def bpb(self) -> Interval:
        """Mean of the scores with its 95 % interval."""
        return mean_interval([run.bpb for run in self.runs])

    @property
    def total_bytes(self) -> int:
        """Mean of artifact and code."""
        return round(fmean(run.total_bytes for run in self.runs))

    @property
    def legal(self) -> bool:
        return all(run.legal for run in self.runs)

    def mean(self, name: str) -> float | None:
        """The mean of a field; None where a run lacks it."""
        values = [getattr(run, name) for run in self.runs]
        return None if None in values else fmean(values)


def read(path: Path = PATH) -> list[Measured]:
    """The lines of the record, in their order; none where there is no file.

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
    """The newest runs of a recipe with these settings, and all of the same kind; of a seed that ran twice the later."""
    own = [run for run in runs if (run.recipe, run.settings) == (recipe, settings)]
    if not own:
        return None
    last = max(own, key=lambda run: run.time)
    alike = {run.seed: run for run in sorted(own, key=lambda run: run.time) if _kind(run) == _kind(last)}
    return Group(tuple(alike[seed] for seed in sorted(alike)))


def _kind(run: Measured) -> Sequence[object]:
    return (run.commit, run.device, run.cpu, run.world_size, sorted(run.versions.items()), run.data)


def difference(ours: Group | None, theirs: Group | None) -> Interval | None:
    """Our bits per byte less theirs, paired by seed; None where they were not measured on one text and machine."""
    if ours is None or theirs is None:
        return None
    if any(getattr(ours.first, name) != getattr(theirs.first, name) for name in ("text", "cpu", "device")):
        return None
    other = {run.seed: run.bpb for run in theirs.runs}
    each = [run.bpb - other[run.seed] for run in ours.runs if run.seed in other]
    return mean_interval(each) if each else None


def settings_hash(config: RunConfig) -> str:
    """Twelve hexadecimal digits of a hash of all that a recipe sets: fields that were added since do not change it."""
    own = {field: value for field, (value, _) in differences(config, RunConfig()).items() if not is_place(field)}
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:12]


def is_place(field: str) -> bool:
    """Whether a dotted field only says where and how often a recipe is run."""
    return field in _PLACES or field.startswith(_STAGE_PLACES)
