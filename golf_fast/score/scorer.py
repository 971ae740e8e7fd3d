"""From a model and validation tokens to bits per byte (seed.md section 6)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from golf_fast.config import ScoreConfig, compiles
from golf_fast.data import Validation
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.score.ledger import Ledger
from golf_fast.score.rows import TokenRows
from golf_fast.score.sliding import TokenLosses, score_windows
from golf_fast.score.ttt import Adapter, restoring
from golf_fast.score.windows import Windows

Progress = Callable[[int, int], None]
"""Called with the windows done and the windows there are."""


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


def score_tokens(
    model: GPT,
    validation: Validation,
    config: ScoreConfig,
    ranks: Ranks | None = None,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score every target exactly once with sliding windows, adapting the model as `config.ttt` says.

    The model's parameters are as before afterwards, bit for bit. Every rank calls this with the same model and tokens.

    Args:
        model: on the device of `ranks`; test-time training adapts its parameters in the dtype they have.
        validation: its byte counts turn the losses of its tokens into bits per byte.
        ranks: who shares the windows and the rows; by default this process alone.
        ledger: a new one, given a path on one rank at most; by default one without a file.

    Raises:
        InputError: the protocol is not legal and not allowed, more blocks are to be frozen than there are, or a loss
            is not finite: then the ledger has no end.
    """
    began = time.perf_counter()
    if ranks is None:
        ranks = Ranks.single(next(model.parameters()).device)
    check_protocol(config)
    scoring = _Pass(model, TokenRows(validation.tokens, ranks.device), config, ranks, ledger or Ledger(), progress)
    if config.ttt == "off":
        scoring.score_all()
    else:
        with restoring(model):
            if config.ttt == "chunked":
                scoring.score_chunks_then_train()
            else:
                scoring.train_then_score()
    ledger = scoring.ledger
    losses = ranks.all_sum_(scoring.losses).cpu().numpy()
    _require_numbers(losses, config)
    ledger.end()
    nats = float(losses.sum(dtype=np.float64))
    return Score(
        nats=nats,
        tokens=len(losses),
        bytes=validation.bytes,
        bpb=nats / math.log(2) / validation.bytes,
        losses=losses,
        legal=ledger.legal,
        violations=ledger.violations,
        track="B" if ledger.adapted else "A",
        seconds=time.perf_counter() - began,
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
    raise InputError(
        f"{said}{where}: adapting with score.ttt_lr {config.ttt_lr:g} and score.ttt_grad_clip {config.ttt_grad_clip:g} "
        "left no number; lower the rate, clip more, or choose score.ttt off"
    )


class _Pass:
    """One pass over the tokens. Every method is called by all ranks together."""

    def __init__(
        self,
        model: GPT,
        rows: TokenRows,
        config: ScoreConfig,
        ranks: Ranks,
        ledger: Ledger,
        progress: Progress | None,
    ) -> None:
        self.model = model
        self.rows = rows
        self.config = config
        self.ranks = ranks
        self.ledger = ledger
        self.progress = progress
        self.windows = Windows(rows.targets, config.window, config.stride)
        self.compiled: TokenLosses | None = None
        if compiles(config.compile, rows.device.type):
            # One graph for the whole pass. A graph break or one recompilation too many is an error: uncompiled, a pass
            # of the challenge may not end in time.
            self.compiled = torch.compile(model.token_losses, dynamic=False, fullgraph=True)
        self.losses: Tensor = torch.zeros(rows.targets, dtype=torch.float32, device=rows.device)
        """Of the targets of this rank's windows; the others' are 0."""
        ledger.begin(rows)

    def score_all(self) -> None:
        """Score every window with the model as it is."""
        self._score(0, self.windows.count)

    def score_chunks_then_train(self) -> None:
        """The legal protocol: score a chunk, then train on it, until nothing is left to score."""
        c = self.config
        chunks = math.ceil(self.rows.targets / c.ttt_chunk_tokens)
        adapter = Adapter(self.model, c, self.ranks)
        for chunk in range(chunks):
            start = chunk * c.ttt_chunk_tokens
            stop = min(start + c.ttt_chunk_tokens, self.rows.targets)
            self._score(*self.windows.scoring_from(start, stop))
            if self.ledger.complete:
                break
            rows = self.ledger.rows_for_training(start, (stop - start) // c.window, c.window)
            adapter.train_on_chunk(rows, chunk, chunks)

    def train_then_score(self) -> None:
        """The seed's published protocol: train on all rows, then score them. Not legal."""
        adapter = Adapter(self.model, self.config, self.ranks)
        count = self.rows.targets // self.config.window
        if count:
            adapter.train_on_everything(self.ledger.unscored_rows(0, count, self.config.window))
        self.score_all()

    def _score(self, first: int, stop: int) -> None:
        """Score windows `first` to `stop` (exclusive), each rank its contiguous share, and record it."""
        if first == stop:
            return
        own_first, own_stop = self.ranks.share(first, stop)

        def report(done: int) -> None:
            if self.progress is not None:
                # The other ranks are taken to be as far as this one.
                self.progress(first + (stop - first) * done // (own_stop - own_first), self.windows.count)

        c = self.config
        score_windows(
            self.model.token_losses,
            self.compiled,
            self.rows,
            self.windows,
            own_first,
            own_stop,
            c.batch_windows,
            self.losses,
            report,
        )
        self.ledger.scored(self.windows.first_scored(first), self.windows.end(stop - 1))
