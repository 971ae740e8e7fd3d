"""The training step written out plainly: one public matrix at a time, no banks, no code of the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from oracle.plain_model import Plain, State, gradients, loss
from torch import Tensor

TABLES = ("tok_emb.weight", "bigram.embed.weight")
MATRICES = ("c_q.weight", "c_k.weight", "c_v.weight", "attn.proj.weight", "mlp.fc.weight", "mlp.proj.weight")
MicroBatch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    max_seconds: float = 600.0
    max_steps: int = 20000
    warmdown_steps: int = 3000
    matrix_lr: float = 0.02
    embed_lr: float = 0.6
    head_lr: float = 0.008
    tied_embed_lr: float = 0.03
    scalar_lr: float = 0.02
    muon_momentum: float = 0.99
    muon_momentum_start: float = 0.92
    muon_momentum_warmup_steps: int = 1500
    muon_iterations: int = 5
    muon_weight_decay: float = 0.04
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 0.04
    grad_clip: float = 0.3
    ema: bool = True
    ema_decay: float = 0.997
    ema_start_step: int = 50
    swa: bool = False
    swa_start_factor: float = 0.4
    swa_every: int = 50
    warmdown_frac: float = 0.0
    min_lr: float = 0.0
    muon_row_normalize: bool = False
    loop_at: float = 0.0
    coefficients: tuple[tuple[float, float, float], ...] = ()
    table_weight_decay: float | None = None
    orthogonalize_in: torch.dtype = torch.bfloat16


@dataclass
class Training:
    """Everything that a training remembers between steps, and what it did."""

    weights: State
    step: int = 0
    momentum: State = field(default_factory=dict)
    first: State = field(default_factory=dict)
    second: State = field(default_factory=dict)
    ema: State | None = None
    swa_sum: State | None = None
    swa_count: int = 0
    losses: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def lr_factor(step: int, elapsed: float, settings: Settings) -> float:
    """Share of the full rates for the step after `step` finished ones, `elapsed` seconds of training into the run."""
    return max(_factor_above_floor(step, elapsed, settings), settings.min_lr)


def _factor_above_floor(step: int, elapsed: float, settings: Settings) -> float:
    if settings.warmdown_frac > 0:
        done = step / settings.max_steps if settings.max_seconds <= 0 else elapsed / settings.max_seconds
        if done < 1 - settings.warmdown_frac:
            return 1.0
        return max(1 - done, 0.0) / settings.warmdown_frac
    warmdown = settings.warmdown_steps
    if warmdown <= 0:
        return 1.0
    if settings.max_seconds <= 0:
        return min(1.0, (settings.max_steps - step) / warmdown)
    seconds_a_step = elapsed / max(step, 1)
    remaining = max(settings.max_seconds - elapsed, 0.0)
    return remaining / (warmdown * seconds_a_step) if remaining <= warmdown * seconds_a_step else 1.0


def momentum_of(step: int, settings: Settings) -> float:
    if settings.muon_momentum_warmup_steps == 0:
        return settings.muon_momentum
    share = min(step / settings.muon_momentum_warmup_steps, 1.0)
    return settings.muon_momentum_start + (settings.muon_momentum - settings.muon_momentum_start) * share


def orthogonalized(matrix: Tensor, iterations: int, dtype: torch.dtype, settings: Settings | None = None) -> Tensor:
    """Newton-Schulz in `dtype`, and the factor for tall matrices."""
    settings = settings or Settings()
    rows, cols = matrix.shape
    if settings.muon_row_normalize:
        matrix = torch.stack([row / (math.sqrt(float((row.double() ** 2).sum())) + 1e-7) for row in matrix])
    x = matrix.to(dtype)
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    if rows > cols:
        x = x.T
    for i in range(iterations):
        first, second, third = settings.coefficients[i] if settings.coefficients else (3.4445, -4.7750, 2.0315)
        a = x @ x.T
        b = second * a + third * (a @ a)
        x = first * x + b @ x
    if rows > cols:
        x = x.T
    update: Tensor = x * math.sqrt(max(1.0, rows / cols))
    return update


def muon_update(training: Training, name: str, grad: Tensor, lr: float, settings: Settings) -> None:
    weight = training.weights[name]
    mu = momentum_of(training.step, settings)
    m = training.momentum.get(name, torch.zeros_like(weight))
    m = mu * m + grad
    training.momentum[name] = m
    update = orthogonalized(grad + mu * m, settings.muon_iterations, settings.orthogonalize_in, settings)
    training.weights[name] = weight * (1 - lr * settings.muon_weight_decay) - lr * update.to(weight.dtype)


def adamw_update(training: Training, name: str, grad: Tensor, lr: float, decay: float, settings: Settings) -> None:
    """One AdamW step (Loshchilov and Hutter, arXiv 1711.05101); what is stored has the dtype of the weight."""
    stored = training.weights[name].dtype
    wide = torch.float64 if stored == torch.float64 else torch.float32
    weight, grad = training.weights[name].to(wide), grad.to(wide)
    zero = torch.zeros_like(weight)
    m = settings.beta1 * training.first.get(name, zero).to(wide) + (1 - settings.beta1) * grad
    v = settings.beta2 * training.second.get(name, zero).to(wide) + (1 - settings.beta2) * grad * grad
    count = training.step + 1
    m_hat = m / (1 - settings.beta1**count)
    v_hat = v / (1 - settings.beta2**count)
    weight = weight * (1 - lr * decay) - lr * m_hat / (torch.sqrt(v_hat) + settings.adam_eps)
    training.weights[name] = weight.to(stored)
    training.first[name], training.second[name] = m.to(stored), v.to(stored)


def is_muon(name: str) -> bool:
    return name == "bigram.proj.weight" or (name.startswith("blocks.") and name.endswith(MATRICES))


def update(training: Training, grads: State, factor: float, settings: Settings) -> None:
    """Move every weight once; `grads` are already clipped."""
    tied = "lm_head.weight" not in training.weights
    for name, grad in grads.items():
        if is_muon(name):
            muon_update(training, name, grad, factor * settings.matrix_lr, settings)
        elif name in TABLES:
            rate = settings.tied_embed_lr if tied else settings.embed_lr
            decay = settings.weight_decay if settings.table_weight_decay is None else settings.table_weight_decay
            adamw_update(training, name, grad, factor * rate, decay, settings)
        elif name == "lm_head.weight":
            adamw_update(training, name, grad, factor * settings.head_lr, 0.0, settings)
        else:
            adamw_update(training, name, grad, factor * settings.scalar_lr, settings.weight_decay, settings)


def clipped(grads: State, limit: float) -> tuple[State, float]:
    """All gradients scaled so that their joint L2 norm is at most `limit` (0: as they are), and the norm before."""
    norm = math.sqrt(sum(float((grad.double() ** 2).sum()) for grad in grads.values()))
    if limit == 0:
        return grads, norm
    factor = min(1.0, limit / (norm + 1e-6))
    return {name: grad * factor for name, grad in grads.items()}, norm


def average(training: Training, factor: float, settings: Settings) -> None:
    """Take the weights after `training.step` finished steps into the averages."""
    weights = {name: tensor.clone() for name, tensor in training.weights.items()}
    wide = {name: tensor if tensor.dtype == torch.float64 else tensor.float() for name, tensor in weights.items()}
    if settings.ema:
        if training.ema is not None:
            d = settings.ema_decay
            training.ema = {name: d * training.ema[name] + (1 - d) * wide[name] for name in wide}
        elif training.step == settings.ema_start_step:
            training.ema = wide
    if settings.swa and factor < settings.swa_start_factor and training.step % settings.swa_every == 0:
        before = training.swa_sum or {name: torch.zeros_like(tensor) for name, tensor in wide.items()}
        training.swa_sum = {name: before[name] + wide[name] for name in wide}
        training.swa_count += 1


def averaged(training: Training, settings: Settings) -> State:
    """The weights that go on to compression. EMA wins once it has begun; SWA is used if there are at least two."""
    if training.ema is not None:
        return training.ema
    if training.swa_sum is not None and training.swa_count >= 2:
        return {name: total / training.swa_count for name, total in training.swa_sum.items()}
    return training.weights


def train_step(
    training: Training, micro_batches: Sequence[MicroBatch], elapsed: float, plain: Plain, settings: Settings
) -> None:
    factor = lr_factor(training.step, elapsed, settings)
    done = training.step / settings.max_steps if settings.max_seconds <= 0 else elapsed / settings.max_seconds
    mean = partial(loss, plain=plain, looped=done >= settings.loop_at)
    total: State = {name: torch.zeros_like(tensor) for name, tensor in training.weights.items()}
    mean_loss = 0.0
    for tokens, targets in micro_batches:
        value, grads = gradients(training.weights, partial(mean, tokens_BT=tokens, targets_BT=targets))
        mean_loss += float(value) / len(micro_batches)
        total = {name: total[name] + grads[name] / len(micro_batches) for name in total}
    total, norm = clipped(total, settings.grad_clip)
    update(training, total, factor, settings)
    training.step += 1
    average(training, factor, settings)
    training.losses.append(mean_loss)
    training.factors.append(factor)
    training.norms.append(norm)
    training.states.append({name: tensor.clone() for name, tensor in training.weights.items()})


def plain_train(
    state: State,
    batches: Sequence[Sequence[MicroBatch]],
    plain: Plain,
    settings: Settings,
    elapsed: Sequence[float],
) -> Training:
    """Train on `batches` (per step its micro-batches); `elapsed` is the clock at the start of each step, in seconds."""
    training = Training({name: tensor.clone() for name, tensor in state.items()})
    for micro_batches, seconds in zip(batches, elapsed, strict=True):
        train_step(training, micro_batches, seconds, plain, settings)
    return training
