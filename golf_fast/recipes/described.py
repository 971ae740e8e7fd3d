"""Descriptions of recipes, for people and programs: what each is, what it builds on, and what it changes."""

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
    """The description of a recipe.

    Attributes:
        text: its docstring on one line; empty under python -OO.
        built_on: the recipe that it builds on; "": none.
        changes: for every dotted field that differs from that recipe, the value there and the value here.
        parameters: number of parameters of its model.
        variant: the variant of the challenge's tokens to fetch; "": it trains on the documentation inside Python.
        measured: the newest recorded runs of it.
        gained: their bits per byte minus those of the recipe that it builds on, if both were measured alike.
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
        """The flags that turn the recipe that it builds on into this one."""
        return [word for field, (_, value) in self.changes.items() for word in as_flags(field, value)]

    @property
    def command(self) -> str:
        """The command that trains it."""
        return f"{TRAIN} {self.name}"

    @property
    def command_of_parent(self) -> str:
        """The command that trains it by flags of the recipe that it builds on; "": it builds on none."""
        return shlex.join([*TRAIN.split(), self.built_on, *self.flags]) if self.built_on else ""

    @property
    def by_stage(self) -> dict[str, list[str]]:
        """The fields that differ, without the prefix of their stage, by stage."""
        found: dict[str, list[str]] = {}
        for field in self.changes:
            stage, _, name = field.partition(".")
            found.setdefault(stage, []).append(name)
        return found


def describe(name: str, runs: Sequence[Measured]) -> Described:
    """The description of the recipe `name`.

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
    """The variant of tokens to fetch, for a recipe of the challenge's size, which is meant for its data; else ""."""
    sized = config.train.batch_tokens >= TrainConfig().batch_tokens
    return variant_of(config.data.shards.name) if sized else ""


def count_parameters(config: ModelConfig) -> int:
    """Number of parameters of a model."""
    count: int = _parameters().count(config)
    return count


@cache
def _parameters() -> ModuleType:
    """The module of the table of parameters, loaded without its package, which would load torch (seconds)."""
    name = f"{__name__}._parameters"
    source = Path(golf_fast.__file__).with_name("model") / "parameters.py"
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module
