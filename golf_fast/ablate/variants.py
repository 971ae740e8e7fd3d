"""Variants of a recipe: the flags that leave one of its mechanisms out, or change something else."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from golf_fast import command_line
from golf_fast.config import RunConfig
from golf_fast.errors import InputError

WHOLE = "whole"
"""The name of the recipe as it is."""


@dataclass(frozen=True)
class Mechanism:
    """Something that a recipe may have, and how to leave it out.

    Attributes:
        text: a few words on what it is.
        without: the flags of `golf_fast.train` that leave it out.
        quantizer: the one that it is a part of; "": of any.
    """

    text: str
    without: tuple[str, ...]
    quantizer: str = ""


MECHANISMS = {
    "adapting": Mechanism("test-time training", ("--score.ttt=off",)),
    "attention_gate": Mechanism("gates on the heads of attention", ("--model.no-attention-gate",)),
    "backout": Mechanism("subtracting a middle block's output from the last", ("--model.no-backout",)),
    "bigram": Mechanism("the hashed embedding of token pairs", ("--model.bigram-buckets=0",)),
    "case_ops": Mechanism("text without capitals, with operators for them", ("--data.no-case-ops",)),
    "ema": Mechanism("the exponential average of the weights", ("--train.no-ema",)),
    "gptq": Mechanism("rounding by what the matrices read", ("--compress.quantizer=trellis",), "gptq_trellis"),
    "lanes": Mechanism("a stream each for attention and MLP in the last blocks", ("--model.lanes-from=0",)),
    "loop": Mechanism("blocks that run more than once", ("--model.loops=0", "--train.loop-at=0")),
    "min_lr": Mechanism("a floor under the learning rates", ("--train.min-lr=0",)),
    "norm_scale": Mechanism("smaller inputs for later blocks", ("--model.no-norm-scale",)),
    "partial_rotary": Mechanism("rotary positions in a part of each head only", ("--model.rope-dims=0",)),
    "polar_express": Mechanism(
        "coefficients of Newton-Schulz for each iteration", ("--train.muon-coefficients=quintic",)
    ),
    "row_normalize": Mechanism("rows of equal length before Newton-Schulz", ("--train.no-muon-row-normalize",)),
    "separate_documents": Mechanism("attention within documents only", ("--model.no-separate-documents",)),
    "skip_gates": Mechanism("learned interpolation of the skips", ("--model.no-skip-gates",)),
    "slope": Mechanism("a slope of the MLP below zero", ("--model.negative-slope=0",)),
    "smear": Mechanism("mixing in the token before", ("--model.smear=off",)),
    "softcap": Mechanism("bounded logits", ("--model.logit-softcap=1000000",)),
    "tied_embeddings": Mechanism("one matrix for input and output", ("--model.no-tied-embeddings",)),
    "trellis": Mechanism("weights on a trellis", ("--compress.quantizer=gptq",), "gptq_trellis"),
    "weight_decay": Mechanism("decay of the weights", ("--train.muon-weight-decay=0", "--train.weight-decay=0")),
    "window": Mechanism("attention to a window", ("--model.window=0", "--score.no-streaming")),
    "xsa": Mechanism("exclusive self-attention, without a head's own value", ("--model.xsa-layers=0",)),
}
"""What `--drop` knows, by name."""


@dataclass(frozen=True)
class Variant:
    """A recipe with changes.

    Attributes:
        name: WHOLE for the recipe as it is.
        flags: of `golf_fast.train`, beside those that all variants have.
        config: what they make.
    """

    name: str
    flags: tuple[str, ...]
    config: RunConfig


def variants(recipe: str, common: Sequence[str], drop: Sequence[str], change: Sequence[str]) -> list[Variant]:
    """The recipe as it is, then one variant for each of `drop` and `change`.

    Args:
        common: flags of all variants.
        drop: names of `MECHANISMS`.
        change: each a name, a colon and flags, as `wide: --model.dim 256`.

    Raises:
        InputError: an unknown name, one twice, flags that cannot be used, or a mechanism that the recipe does not have.
    """
    made = {WHOLE: _variant(WHOLE, recipe, common, ())}
    for name in drop:
        if name not in MECHANISMS:
            raise InputError(f"--drop {name}: no such mechanism; there are {', '.join(MECHANISMS)}")
        _add(made, _variant(name, recipe, common, MECHANISMS[name].without))
        if not _differs(made[WHOLE].config, made[name].config, MECHANISMS[name]):
            raise InputError(f"--drop {name}: {recipe} has no {name} ({MECHANISMS[name].text}); it has {_had(recipe)}")
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
    whole = _variant(WHOLE, recipe, common, ()).config
    had = []
    for name, mechanism in MECHANISMS.items():
        try:
            if _differs(whole, _variant(name, recipe, common, mechanism.without).config, mechanism):
                had.append(name)
        except InputError:  # the recipe does not stand without it
            continue
    return had


def _differs(whole: RunConfig, without: RunConfig, mechanism: Mechanism) -> bool:
    """Whether the whole recipe has a mechanism that the other lacks."""
    return whole != without and mechanism.quantizer in ("", whole.compress.quantizer)


def _had(recipe: str) -> str:
    return ", ".join(mechanisms_of(recipe))


def _add(made: dict[str, Variant], variant: Variant) -> None:
    if variant.name in made:
        raise InputError(f"{variant.name}: there are two variants of this name; give each its own")
    made[variant.name] = variant


def _variant(name: str, recipe: str, common: Sequence[str], flags: Sequence[str]) -> Variant:
    def needed() -> tuple[str, str]:
        raise InputError(f"{recipe}: a recipe is needed")

    try:
        parsed = command_line.parse(
            [recipe, *common, *flags], os.environ, prog="python -m golf_fast.train", default_recipe=needed
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return Variant(name, tuple(flags), parsed.config)
