"""Variants of a recipe: the flags that leave one of its mechanisms out, or change something else."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf_fast import command_line
from golf_fast.config import RunConfig
from golf_fast.errors import InputError

WHOLE = "whole"
"""Name of the variant that is the unchanged recipe."""


@dataclass(frozen=True)
class Mechanism:
    """Something that a recipe may have, and how to leave it out.

    Attributes:
        text: description in a few words.
        without: dotted fields of `RunConfig` -> the values that leave the mechanism out.
        quantizer: quantizer that the mechanism is a part of; "" if it does not depend on the quantizer.
    """

    text: str
    without: Mapping[str, Any]
    quantizer: str = ""


MECHANISMS = {
    "adapting": Mechanism("test-time training", {"score.ttt": "off"}),
    "attention_gate": Mechanism("gates on the heads of attention", {"model.attention_gate": False}),
    "backout": Mechanism("subtracting a middle block's output from the last", {"model.backout": False}),
    "bigram": Mechanism("the hashed embedding of token pairs", {"model.bigram_buckets": 0}),
    "case_ops": Mechanism("text without capitals, with operators for them", {"data.case_ops": False}),
    "ema": Mechanism("the exponential average of the weights", {"train.ema": False}),
    "gptq": Mechanism("rounding by what the matrices read", {"compress.quantizer": "trellis"}, "gptq_trellis"),
    "lanes": Mechanism("a stream each for attention and MLP in the last blocks", {"model.lanes_from": 0}),
    "loop": Mechanism("blocks that run more than once", {"model.loops": 0, "train.loop_at": 0.0}),
    "min_lr": Mechanism("a floor under the learning rates", {"train.min_lr": 0.0}),
    "norm_scale": Mechanism("smaller inputs for later blocks", {"model.norm_scale": False}),
    "partial_rotary": Mechanism("rotary positions in a part of each head only", {"model.rope_dims": 0}),
    "polar_express": Mechanism(
        "coefficients of Newton-Schulz for each iteration", {"train.muon_coefficients": "quintic"}
    ),
    "q_gain": Mechanism("a larger gain of the queries at first", {"model.qk_gain_init": 1.5}),
    "row_normalize": Mechanism("rows of equal length before Newton-Schulz", {"train.muon_row_normalize": False}),
    "separate_documents": Mechanism("attention within documents only", {"model.separate_documents": False}),
    "skip_gates": Mechanism("learned interpolation of the skips", {"model.skip_gates": False}),
    "slope": Mechanism("a slope of the MLP below zero", {"model.negative_slope": 0.0}),
    "smear": Mechanism("mixing in the token before", {"model.smear": "off"}),
    "softcap": Mechanism("bounded logits", {"model.logit_softcap": 1000000.0}),
    "table_decay": Mechanism("a decay of its own for the embedding tables", {"train.table_weight_decay": None}),
    "tied_embeddings": Mechanism("one matrix for input and output", {"model.tied_embeddings": False}),
    "trellis": Mechanism("weights on a trellis", {"compress.quantizer": "gptq"}, "gptq_trellis"),
    "warmdown_share": Mechanism("a warmdown over a share of the run", {"train.warmdown_frac": 0.0}),
    "weight_decay": Mechanism(
        "decay of the weights",
        {"train.muon_weight_decay": 0.0, "train.weight_decay": 0.0, "train.table_weight_decay": 0.0},
    ),
    "window": Mechanism("attention to a window", {"model.window": (0,), "score.streaming": False}),
    "xsa": Mechanism("exclusive self-attention, without a head's own value", {"model.xsa_layers": 0}),
}
"""The mechanisms that `--drop` can leave out, by name."""


@dataclass(frozen=True)
class Variant:
    """A recipe with changes.

    Attributes:
        name: name of the variant; WHOLE for the unchanged recipe.
        flags: flags of `golf_fast.train` besides those that all variants have.
        config: settings of its runs.
    """

    name: str
    flags: tuple[str, ...]
    config: RunConfig


def variants(recipe: str, common: Sequence[str], drop: Sequence[str], change: Sequence[str]) -> list[Variant]:
    """The recipe as it is, then one variant for each of `drop` and `change`.

    Args:
        recipe: name of a recipe.
        common: command-line flags of all variants.
        drop: names of `MECHANISMS` to leave out, one in each variant.
        change: each a name, a colon and flags, as `wide: --model.dim 256`.

    Raises:
        InputError: an unknown name, one twice, flags that cannot be used, or a mechanism that the recipe does not have.
    """
    whole = _variant(WHOLE, recipe, common, ())
    made = {WHOLE: whole}
    for name in drop:
        if name not in MECHANISMS:
            raise InputError(f"--drop {name}: no such mechanism; there are {', '.join(MECHANISMS)}")
        _add(made, _without(whole, name))
        if not _differs(whole, made[name]):
            had = ", ".join(_mechanisms(whole))
            raise InputError(f"--drop {name}: {recipe} has no {name} ({MECHANISMS[name].text}); it has {had}")
    for said in change:
        name, colon, flags = said.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9_.+-]+", name.strip()):
            raise InputError(f"--change {said!a}: it must be a plain name, a colon and flags, as wide: --model.dim 256")
        try:
            words = tuple(shlex.split(flags))
        except ValueError as error:
            raise InputError(f"--change {said!a}: {error}") from error
        _add(made, _variant(name.strip(), recipe, common, words))
    return list(made.values())


def mechanisms_of(recipe: str, common: Sequence[str] = ()) -> list[str]:
    """The names of the mechanisms that a recipe has."""
    return _mechanisms(_variant(WHOLE, recipe, common, ()))


def _mechanisms(whole: Variant) -> list[str]:
    had = []
    for name in MECHANISMS:
        try:
            if _differs(whole, _without(whole, name)):
                had.append(name)
        except InputError:  # the recipe does not stand without it
            continue
    return had


def _without(whole: Variant, name: str) -> Variant:
    values = MECHANISMS[name].without
    flags = [word for field, value in values.items() for word in command_line.as_flags(field, value)]
    try:
        return Variant(name, tuple(flags), command_line.changed(whole.config, values))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _differs(whole: Variant, without: Variant) -> bool:
    """Whether the whole recipe has a mechanism that the other lacks."""
    mechanism = MECHANISMS[without.name]
    return whole.config != without.config and mechanism.quantizer in ("", whole.config.compress.quantizer)


def _add(made: dict[str, Variant], variant: Variant) -> None:
    if variant.name in made:
        raise InputError(f"{variant.name}: there are two variants of this name; give each its own")
    made[variant.name] = variant


_OF_EACH_RUN = {"seed": "--first-seed and --seeds", "run_id": "--out", "runs_dir": "--out"}
"""Fields that differ from run to run -> what the ablation has in place of them."""


def _variant(name: str, recipe: str, common: Sequence[str], flags: Sequence[str]) -> Variant:
    def needed() -> tuple[str, str]:
        raise InputError(f"{recipe}: a recipe is needed")

    try:
        parsed = command_line.parse(
            [recipe, *common, *flags], os.environ, prog="python -m golf_fast.train", default_recipe=needed
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    for field, instead in _OF_EACH_RUN.items():
        if parsed.origins[field] == "command line":
            flag = command_line.flag_names(field)[0]
            raise InputError(f"{name}: {flag}: each run gets its own; name {instead} of the ablation")
    return Variant(name, tuple(flags), parsed.config)
