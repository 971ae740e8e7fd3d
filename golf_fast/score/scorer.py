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
    """The result of scoring; the same on every rank except for `seconds`."""

    nats: float
    """Sum of the losses in nats, computed in float64."""
    tokens: int
    """Number of targets scored, one fewer than the tokens given."""
    bytes: int
    """Number of bytes of text that the targets stand for."""
    bpb: float
    """Bits per byte."""
    losses: npt.NDArray[np.float32] = field(repr=False)
    """Loss of each target in nats, `[tokens]`."""
    legal: bool
    """Whether no event in the ledger breaks a rule."""
    violations: list[str]
    """The rules broken, by their number (V1: train, then score)."""
    track: Literal["A", "B"]
    """B if validation tokens were trained on, else A."""
    seconds: float
    """Wall time of the pass, in seconds."""
    order: Order = "stream"
    """The order in which documents were scored."""
    not_judged: list[str] = field(default_factory=list)
    """What could not be judged from the ledger, as texts."""


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

    The model's parameters are restored bit for bit afterwards. Every rank calls this with the same model and tokens.

    Args:
        model: the model, on the device of `ranks`; test-time training adapts its parameters in their own dtype.
        validation: the tokens to score, with byte counts that turn losses into bits per byte.
        config: the scoring settings.
        ranks: the ranks that share the work; default: this process only.
        ledger: a new ledger, with a path on one rank at most; default: one without a file.
        progress: called with the amount of work done and the total amount.
        training: training tokens `[n]`, for the strategy held_out.
        log: called with a line for what is given up to keep within `config.max_seconds`.
        clock: returns a time in seconds.
        cuts: the cuts that an earlier pass made for its time limit (`golf_fast.score.ledger.cuts_of`), to repeat them.

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
    """The `Score` of the losses of all targets, which stand for `size` bytes."""
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
    """Check the scoring protocol as `score_tokens` does, so that a program can do so before training.

    Raises:
        InputError: `config` asks for what the rules forbid without `allow_illegal`.
    """
    if config.violations and not config.allow_illegal:
        raise InputError(
            f"score.ttt is {config.ttt}: the rules forbid it ({', '.join(config.violations)}); "
            "choose chunked, or add --score.allow-illegal to run it with that label"
        )


def _require_numbers(losses: npt.NDArray[np.float32], config: ScoreConfig) -> None:
    """Check that every loss `[targets]` is finite; all ranks get the same answer, so none is left waiting.

    Raises:
        InputError: a loss is not finite; the message names the first and its most likely cause.
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
