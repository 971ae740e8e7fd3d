"""A recipe as people and programs read it: what it is, what it builds on, and what it changes."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import golf_fast
from golf_fast.command_line import as_flags, differences, named
from golf_fast.config import ModelConfig, RunConfig
from golf_fast.recipes import BUILT_ON, RECIPES
from golf_fast.recipes.measured import Group, Measured, difference, newest, settings_hash
from golf_fast.recipes.published import PUBLISHED, Published
from golf_fast.rules import variant_of
from golf_fast.statistics import Interval
from golf_fast.train_config import TrainConfig

TRAIN = "python -m golf_fast.train"


@dataclass(frozen=True)
class Described:
    """What is known of a recipe.

    Attributes:
        text: its docstring on one line; empty under python -OO.
        built_on: another recipe; "" for the first of all.
        changes: dotted field -> the value there and the value here, for every one that differs.
        parameters: how many numbers its model has.
        variant: of the challenge's tokens, to fetch; "" where the text inside Python is trained on.
        measured: the newest runs of it on record.
        gained: their bits per byte less those of what it builds on, where both were measured alike.
    """

    name: str
    text: str
    built_on: str
    changes: dict[str, tuple[Any, Any]]
    parameters: int
    variant: str
    measured: Group | None
    gained: Interval | None
    published: Published | None

    @property
    def flags(self) -> list[str]:
        """Words of a command line that make it of what it builds on."""
        return [word for field, (_, value) in self.changes.items() for word in as_flags(field, value)]

    @property
    def command(self) -> str:
        """What trains it."""
        return f"{TRAIN} {self.name}"

    @property
    def command_of_parent(self) -> str:
        """What trains the same by flags; empty for the first of all."""
        return shlex.join([*TRAIN.split(), self.built_on, *self.flags]) if self.built_on else ""

    @property
    def by_stage(self) -> dict[str, list[str]]:
        """Stage -> its fields that differ, without the stage in front."""
        found: dict[str, list[str]] = {}
        for field in self.changes:
            stage, _, name = field.partition(".")
            found.setdefault(stage, []).append(name)
        return found


def describe(name: str, runs: Sequence[Measured]) -> Described:
    """What is known of the recipe `name`.

    Raises:
        InputError: there is no such recipe.
    """
    config, parent = named(name), BUILT_ON.get(name, "")
    own = newest(runs, name, settings_hash(config))
    changes = differences(RECIPES[parent](), config) if parent else {}
    return Described(
        name=name,
        text=" ".join((RECIPES[name].__doc__ or "").split()),
        built_on=parent,
        changes=changes,
        parameters=count_parameters(config.model),
        variant=_variant(config),
        measured=own,
        gained=difference(own, newest(runs, parent, settings_hash(RECIPES[parent]()))) if parent else None,
        published=PUBLISHED.get(name),
    )


def _variant(config: RunConfig) -> str:
    """What is to be fetched: a recipe of the challenge's size is meant for its data."""
    sized = config.train.batch_tokens >= TrainConfig().batch_tokens
    return variant_of(config.data.shards.name) if sized else ""


def count_parameters(config: ModelConfig) -> int:
    """How many numbers the parameters of a model are."""
    count: int = _parameters().count(config)
    return count


@cache
def _parameters() -> ModuleType:
    """The table of parameters, without the package around it: that loads torch, which takes seconds."""
    name = f"{__name__}._parameters"
    source = Path(golf_fast.__file__).with_name("model") / "parameters.py"
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module
