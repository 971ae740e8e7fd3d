"""Probes that run a model to check what the rules require of it: for any model, in seconds on a CPU.

Two probes prove more than reading code: changing a token must not change any distribution before it (C1), and
probabilities must sum to 1 (C2). A model is a callable `tokens [B, T] int64 -> [B, T, V]`, whose entry `[b, t]` is
about the token after `tokens[b, t]`. A scorer, which may adapt, is a callable `tokens [N] int64 -> pieces`, where a
piece `(start, losses [n])` holds the nats of targets `start` to `start + n`, and target i is token i + 1.

Random choices come from a seed, so a probe is reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
Losses = Callable[[Tensor, Tensor], Tensor]
Scorer = Callable[[Tensor], Iterable[tuple[int, Tensor]]]
ByteCount = Callable[[int, int], float]

_ROWS = 16
"""Rows of a batch, including the unchanged row where tokens are changed."""


@dataclass(frozen=True)
class Probe:
    """The result of a probe."""

    name: str
    passed: bool
    where: str
    """The first place at which the probe failed, or what was probed."""
    amount: float
    """The largest deviation, passed or not: nats by which a prediction moved or a sum of probabilities differs from 1,
    bytes by which a token is off, or a number of tokens."""


def causality(
    model: Model,
    vocab_size: int,
    length: int,
    *,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Probe:
    """Check causality: changing token t must not change any distribution before t.

    A model that looks ahead by one position at a single place shows it for one t only, so every t is tried unless
    `positions` names some. Each t is tried twice: with only token t changed, and with all tokens from t on changed.

    Args:
        model: returns logits or log-probabilities; must not adapt.
        vocab_size: number of ids that tokens are drawn from.
        length: length of the rows in tokens.
        positions: values of t, each from 1 to length - 1.
        tolerance: nats by which a log-probability may differ through rounding.
    """
    chosen = range(1, length) if positions is None else positions
    for position in chosen:
        if not 1 <= position < length:
            raise ValueError(f"position {position}: it must be from 1 to {length - 1}, below the length")
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size, (length,), generator=generator)
    worst, where = 0.0, ""
    changes = [(position, alone) for position in chosen for alone in (True, False)]
    for first in range(0, len(changes), _ROWS - 1):
        batch = changes[first : first + _ROWS - 1]
        rows = torch.stack([tokens, *(_changed(tokens, t, alone, vocab_size, generator) for t, alone in batch)])
        predicted = _log_probabilities(model, rows)
        for row, (position, alone) in enumerate(batch, 1):
            moved = (predicted[row, :position] - predicted[0, :position]).abs().amax(dim=-1)
            if float(moved.max()) > worst:
                worst = float(moved.max())
                change = "token" if alone else "all tokens from"
                where = f"position {int(moved.argmax())} sees {change} {position}"
    passed = worst <= tolerance
    return Probe("causality", passed, f"{len(chosen)} tokens of {length} changed" if passed else where, worst)


def normalization(
    model: Model, vocab_size: int, length: int, *, logits: bool = False, seed: int = 0, tolerance: float = 1e-4
) -> Probe:
    """Check that the probabilities of all tokens sum to 1 at every position.

    Args:
        model: returns log-probabilities, or logits if `logits` is true; a softmax normalizes logits, so these are only
            checked to be finite.
        tolerance: largest allowed difference of the logarithm of the sum from 0.
    """
    tokens = torch.randint(vocab_size, (2, length), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        given = model(tokens).double()
    if given.shape != (2, length, vocab_size):
        shape = f"the shape is {tuple(given.shape)}, {(2, length, vocab_size)} is needed"
        return Probe("normalization", False, shape, math.inf)
    sums = given.logsumexp(-1)
    off = torch.zeros_like(sums) if logits else sums.abs()
    off = torch.where(sums.isfinite() & ~given.isnan().any(-1), off, math.inf)
    return _of_sums("normalization", off.flatten(), length, tolerance, f"{2 * length} positions")


def normalization_of_losses(
    losses: Losses, vocab_size: int, length: int, *, seed: int = 0, tolerance: float = 1e-4
) -> Probe:
    """Check that `exp(-loss)` sums to 1 over all possible targets, for a callable that returns losses only.

    A cache that provides a probability for the true token only fails this probe.

    Args:
        losses: `(tokens [B, T], targets [B, T]) -> [B, T]` nats.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size, (1, length), generator=generator)
    found = []
    for tried in torch.split(torch.arange(vocab_size), _ROWS):
        targets = tried[:, None].repeat(1, length)
        with torch.no_grad():
            found.append(-losses(tokens.repeat(len(tried), 1), targets).double())
    off = torch.cat(found).logsumexp(0).abs()
    off = torch.where(off.isfinite(), off, math.inf)
    return _of_sums("normalization of losses", off, length, tolerance, f"{vocab_size} targets at {length} positions")


def single_pass(scorer: Scorer, vocab_size: int, length: int, *, seed: int = 0) -> Probe:
    """Check that every target is scored exactly once, from left to right (C4).

    The amount is the number of targets that were not scored, scored twice, or scored out of order.
    """
    tokens = torch.randint(vocab_size, (length,), generator=torch.Generator().manual_seed(seed))
    times = [0] * (length - 1)
    wrong, where, next_target = 0, "", 0
    for start, losses in scorer(tokens):
        count = losses.numel()
        if not losses.isfinite().all():
            wrong += int((~losses.isfinite()).sum())
            where = where or f"targets {start} to {start + count} have a loss that is not finite"
        if start != next_target:
            wrong += abs(start - next_target)
            where = where or f"target {start} is scored when it is the turn of {next_target}"
        for target in range(start, start + count):
            if not 0 <= target < length - 1:
                wrong += 1
                where = where or f"target {target} does not exist: there are {length - 1}"
                continue
            times[target] += 1
        next_target = start + count
    again = [target for target, number in enumerate(times) if number > 1]
    never = [target for target, number in enumerate(times) if number == 0]
    wrong = max(wrong, len(again) + len(never))
    if again or never:
        where = (
            f"target {again[0]} is scored {times[again[0]]} times" if again else f"target {never[0]} is never scored"
        )
    return Probe("single pass", wrong == 0, where or f"{length - 1} targets", float(wrong))


def adaptation(
    scorer: Scorer,
    vocab_size: int,
    length: int,
    *,
    positions: Sequence[int],
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Probe:
    """Check a scorer that adapts: no loss before token t may depend on t, and `exp(-loss)` of t must sum to 1 (C1 to
    C3).

    Token t is replaced by every other token. If the loss of an earlier target changes, it was computed with knowledge
    of t; if `exp(-loss)` of t does not sum to 1 over the replacements, t was trained on before it was scored. The
    scorer runs `vocab_size` times for each t.

    Args:
        positions: values of t, each from 1 to length - 1; choose some from every part of the stream.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size, (length,), generator=generator)
    worst, where = 0.0, ""
    for position in positions:
        if not 1 <= position < length:
            raise ValueError(f"position {position}: it must be from 1 to {length - 1}, below the length")
        runs = []
        for token in range(vocab_size):
            changed = tokens.clone()
            changed[position] = token
            runs.append(_all_losses(scorer, changed))
        table = torch.stack(runs)
        before = table[:, : position - 1]
        moved = (before - before[:1]).abs().amax(0) if position > 1 else torch.zeros(1, dtype=torch.float64)
        missing = abs(float((-table[:, position - 1]).logsumexp(0)))
        if float(moved.max()) > max(worst, tolerance):
            worst, where = float(moved.max()), f"the loss of target {int(moved.argmax())} moves with token {position}"
        if not missing <= max(worst, tolerance):
            worst = missing if math.isfinite(missing) else math.inf
            where = f"the probabilities of token {position} sum to {math.exp(min(missing, 50.0)):.4g} or its inverse"
        worst = max(worst, float(moved.max()), missing)
    return Probe("adaptation", worst <= tolerance, where or f"{len(positions)} tokens changed", worst)


def isolation(model: Model, vocab_size: int, length: int, bos: int, *, seed: int = 0, tolerance: float = 1e-4) -> Probe:
    """Check that documents are separate: tokens before a BOS must not change any distribution from that BOS on.

    It applies to models that pack documents into a row, not to those that read one continuous stream. For each document
    the token before its BOS is changed, then all tokens before its BOS.

    Args:
        model: finds the start of documents by their BOS itself.
        bos: the id that begins a document.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size - 1, (length,), generator=generator)
    tokens += tokens >= bos  # no other BOS
    begins = sorted({0, length // 5, length // 2, length // 2 + 3, length - 2} & set(range(length)))
    tokens[begins] = bos
    worst, where = 0.0, ""
    for begin in begins[1:]:
        near, far = tokens.clone(), tokens.clone()
        for row, changed in ((near, [begin - 1]), (far, list(range(begin)))):
            for position in changed:
                if position not in begins:
                    row[position] = _other(int(tokens[position]), vocab_size, generator, bos)
        predicted = _log_probabilities(model, torch.stack([tokens, near, far]))
        moved = (predicted[1:, begin:] - predicted[:1, begin:]).abs().amax(dim=(0, 2))
        if float(moved.max()) > worst:
            worst = float(moved.max())
            where = f"position {begin + int(moved.argmax())} sees the document before its BOS at {begin}"
    passed = worst <= tolerance
    return Probe("isolation at BOS", passed, f"{len(begins) - 1} documents" if passed else where, worst)


def byte_accounting(count: ByteCount, tokenizer: Any, silent: Collection[int] = ()) -> Probe:
    """Check that the bytes counted for each token are those that it adds to the decoded text.

    Args:
        count: `(previous token, token) -> bytes`.
        tokenizer: a `sentencepiece.SentencePieceProcessor`.
        silent: tokens that stand for no text although the tokenizer decodes them to some: operators of a transform.

    The amount is the largest error of a token, in bytes.
    """
    size = int(tokenizer.get_piece_size())
    special = [t for t in range(size) if tokenizer.is_control(t) or tokenizer.is_unknown(t) or tokenizer.is_unused(t)]
    plain = [t for t in range(size) if t not in special and not tokenizer.is_byte(t)]
    anchor = next((t for t in plain if not tokenizer.id_to_piece(t).startswith("\u2581")), plain[0])
    befores = [("after a token", anchor)] + [("after a control token", t) for t in special[:1]]
    start = len(tokenizer.decode([anchor]).encode())
    worst, where = 0.0, ""
    for token in range(size):
        space = tokenizer.id_to_piece(token).startswith("\u2581")
        if token in silent:
            kind, expected = "operator", 0
        elif token in special:
            kind, expected = "control token", 0
        elif tokenizer.is_byte(token):
            kind, expected = "byte-fallback token", 1
        else:
            kind = "token with a leading space" if space else "token"
            expected = len(tokenizer.decode([anchor, token]).encode()) - start
        for place, before in befores:
            wanted = expected - (1 if space and before in special and token not in special else 0)
            off = float(count(before, token)) - wanted
            if abs(off) > abs(worst):
                worst = off
                where = f"{kind} {token} {place} counts {wanted + off:g} bytes and stands for {wanted}"
    return Probe("byte accounting", worst == 0, where or f"{size} tokens", abs(worst))


def _of_sums(name: str, off: Tensor, length: int, tolerance: float, probed: str) -> Probe:
    worst, at = float(off.max()), int(off.argmax())
    passed = worst <= tolerance
    row = f"row {at // length}, " if len(off) > length else ""
    return Probe(name, passed, probed if passed else f"{row}position {at % length}", worst)


def _all_losses(scorer: Scorer, tokens: Tensor) -> Tensor:
    """The last loss that a scorer reported for each target, float64 `[N - 1]`."""
    found = torch.full((len(tokens) - 1,), math.nan, dtype=torch.float64)
    for start, losses in scorer(tokens):
        found[start : start + losses.numel()] = losses.detach().double().flatten()
    return found


def _log_probabilities(model: Model, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens).double().log_softmax(-1)


def _changed(tokens: Tensor, position: int, alone: bool, vocab_size: int, generator: torch.Generator) -> Tensor:
    """The tokens with another one at `position` and, unless `alone`, others at all later positions."""
    changed = tokens.clone()
    last = position + 1 if alone else len(tokens)
    for at in range(position, last):
        changed[at] = _other(int(tokens[at]), vocab_size, generator)
    return changed


def _other(token: int, vocab_size: int, generator: torch.Generator, avoid: int | None = None) -> int:
    """A random id other than `token` and `avoid`."""
    choices = [other for other in range(vocab_size) if other not in (token, avoid)]
    return choices[int(torch.randint(len(choices), (), generator=generator))]
