"""From a model and validation tokens to bits per byte (seed.md section 6)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from golf_fast.config import ScoreConfig
from golf_fast.data import Validation
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.score.examiner import Examiner, Progress
from golf_fast.score.ledger import Ledger
from golf_fast.score.pace import Pace
from golf_fast.score.rows import TokenRows
from golf_fast.score.streaming import require_windowed
from golf_fast.score.ttt import STRATEGIES, Work
from golf_fast.score.ttt.weights import restoring
from golf_fast.score.verdict import Facts, Order, Verdict


@dataclass(frozen=True)
class Score:
    """What scoring found. The same on every rank, but for `seconds`."""

    nats: float
    """Sum of the losses, in float64."""
    tokens: int
    """Targets scored: one fewer than the tokens given."""
    bytes: int
    """Bytes of text that the targets stand for."""
    bpb: float
    """Bits per byte."""
    losses: npt.NDArray[np.float32] = field(repr=False)
    """Nats of each target, `[tokens]`."""
    legal: bool
    """Whether the ledger holds nothing that breaks a rule."""
    violations: list[str]
    """The rules broken, by their number (V1: train, then score)."""
    track: Literal["A", "B"]
    """B if validation tokens were trained on, else A."""
    seconds: float
    """Wall time of the pass."""
    order: Order = "stream"
    """In which documents were scored."""
    not_judged: list[str] = field(default_factory=list)
    """What the ledger leaves open, in words."""


def score_tokens(
    model: GPT,
    validation: Validation,
    config: ScoreConfig,
    ranks: Ranks | None = None,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    *,
    training: npt.NDArray[np.uint16] | None = None,
    log: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    cuts: Mapping[tuple[str, int], int] | None = None,
) -> Score:
    """Score every target exactly once, adapting the model as the strategy `config.ttt` says.

    The model's parameters are as before afterwards, bit for bit. Every rank calls this with the same model and tokens.

    Args:
        model: on the device of `ranks`; test-time training adapts its parameters in the dtype they have.
        validation: its byte counts turn the losses of its tokens into bits per byte.
        ranks: who shares the windows and the rows; by default this process alone.
        ledger: a new one, given a path on one rank at most; by default one without a file.
        progress: is told of what is done, of all there is.
        training: training tokens `[n]`, for the strategy held_out.
        log: is told what is given up to score within `config.max_seconds`.
        clock: in seconds.
        cuts: what an earlier pass gave up for its limit of time (`golf_fast.score.ledger.cuts_of`), to do the same.

    Raises:
        InputError: the protocol is not legal and not allowed, a model without windows is to be streamed, more blocks
            are to be frozen than there are, held_out has no training tokens, or a loss is not finite: then the ledger
            has no end.
    """
    began = clock()
    if ranks is None:
        first, *_ = model.parameters()
        ranks = Ranks.single(first.device)
    check_protocol(config)
    if config.streaming:
        require_windowed(model)
    ledger = ledger or Ledger()
    strategy = STRATEGIES[config.ttt]
    pace = Pace(config.max_seconds, ranks, clock, log, cuts)
    rows = TokenRows(validation.tokens, ranks.device)
    examiner = Examiner(model, rows, config, ranks, ledger, progress, pace)
    with restoring(model) if config.ttt != "off" else nullcontext():
        strategy.run(Work(examiner, model, config, ranks, training))
        examiner.finish()
    losses = ranks.all_sum_(examiner.losses).cpu().numpy()
    _require_numbers(losses, config)
    ledger.end()
    seconds = clock() - began
    facts = Facts(finished=True, eval_limit=config.max_seconds or None, eval_seconds=seconds)
    return _score(losses, validation.bytes, ledger.judged(facts), seconds)


def _score(losses: npt.NDArray[Any], size: int, verdict: Verdict, seconds: float) -> Score:
    """What was found, of the losses of all targets and the bytes that these stand for."""
    nats = float(losses.sum(dtype=np.float64))
    return Score(
        nats=nats,
        tokens=len(losses),
        bytes=size,
        bpb=nats / math.log(2) / size,
        losses=losses.astype(np.float32, copy=False),
        legal=verdict.legal,
        violations=verdict.violations,
        track=verdict.track,
        seconds=seconds,
        order=verdict.order,
        not_judged=verdict.not_judged,
    )


def check_protocol(config: ScoreConfig) -> None:
    """What `score_tokens` checks first, for a program that wants to know before it trains a model.

    Raises:
        InputError: `config` asks for what the rules forbid without `allow_illegal`.
    """
    if config.violations and not config.allow_illegal:
        raise InputError(
            f"score.ttt is {config.ttt}: the rules forbid it ({', '.join(config.violations)}); "
            "choose chunked, or add --score.allow-illegal to run it with that label"
        )


def _require_numbers(losses: npt.NDArray[np.float32], config: ScoreConfig) -> None:
    """That every loss `[targets]` is finite: the same on every rank, so that none is left waiting.

    Raises:
        InputError: names the first that is not, and what most likely made it so.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if not broken.size:
        return
    first = int(broken[0])
    said = f"the loss of validation target {first} of {len(losses)} is {losses[first]}"
    if config.ttt == "off":
        raise InputError(f"{said}: the model's weights give no number there, so it has no score")
    chunk, chunks = first // config.ttt_chunk_tokens, math.ceil(len(losses) / config.ttt_chunk_tokens)
    where = f", in chunk {chunk} of {chunks}" if config.ttt == "chunked" else ""
    strategy = STRATEGIES[config.ttt]
    raise InputError(
        f"{said}{where}: adapting with {strategy.rate} {strategy.rate_of(config):g}{_clip(config)} "
        "left no number; lower the rate, clip more, or choose score.ttt off"
    )


def _clip(config: ScoreConfig) -> str:
    if config.ttt in ("chunked", "train_then_score"):
        return f" and score.ttt_grad_clip {config.ttt_grad_clip:g}"
    return f" and score.held_out.grad_clip {config.held_out.grad_clip:g}" if config.ttt == "held_out" else ""
