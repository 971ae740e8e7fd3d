"""The configuration of training, checked on construction. Importing this module imports no stage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from golf_fast.checks import MOST, later, require, require_not_negative, require_numbers, require_positive
from golf_fast.score_config import MOST_TOGETHER, Compile

Coefficients = Literal["quintic", "polar_express", "polar_express_published"]
_TOGETHER = f"at most {MOST_TOGETHER} tokens"

CHECKPOINTS = ("checkpoint_seconds", "checkpoint_every", "checkpoint_keep")
"""Fields that change nothing that is computed: they say what a run can go on from."""


@dataclass(frozen=True)
class TrainConfig:
    """From batches to averaged weights."""

    max_seconds: float = 600.0
    """Training time limit; the run stops before the step that would end past it. 0: no limit, only steps count."""
    max_steps: int = 20000
    """Greatest number of training steps; the time limit may end the run before."""
    warmdown_steps: int = 3000
    """Steps over which the learning rate falls to zero at the end, in steps of the mean length so far; 0: none."""
    warmup_steps: int = 20
    """Untimed steps before the first, undone afterwards: they compile and fill caches."""
    batch_tokens: int = 786432
    """Tokens of one training step, over all ranks and micro-batches."""
    micro_batches: int = 8
    """Pieces that a step's batch is cut into; the world size must divide it."""
    seq_len: int = 2048
    """Length of a training row, in tokens."""
    matrix_lr: float = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    embed_lr: float = 0.6
    """Learning rate of AdamW for the embedding tables when they are not tied."""
    head_lr: float = 0.008
    """Learning rate of AdamW for an untied output matrix."""
    tied_embed_lr: float = 0.03
    """Learning rate of AdamW for the embedding tables when they are tied."""
    scalar_lr: float = 0.02
    """Learning rate of AdamW for scalars and vectors."""
    muon_momentum: float = 0.99
    """Momentum of Muon after its warm-up."""
    muon_momentum_start: float = 0.92
    """Momentum of Muon at the first step."""
    muon_momentum_warmup_steps: int = 1500
    """Steps over which the momentum of Muon rises, linearly."""
    muon_iterations: int = 5
    """Newton-Schulz iterations of Muon."""
    muon_weight_decay: float = 0.04
    """Decoupled weight decay of Muon, times the learning rate."""
    beta1: float = 0.9
    """Decay of AdamW's running mean of the gradients."""
    beta2: float = 0.95
    """Decay of AdamW's running mean of their squares."""
    adam_eps: float = 1e-8
    """Epsilon of AdamW, added to the root of the mean square."""
    weight_decay: float = 0.04
    """Decoupled weight decay of AdamW, times the learning rate."""
    grad_clip: float = 0.3
    """Limit of the L2 norm over all gradients in training; 0: none."""
    ema: bool = True
    """Average the weights exponentially; wins over swa once it has begun."""
    ema_decay: float = 0.997
    """Share of the exponential average that is kept at each step."""
    ema_start_step: int = 50
    """The exponential average starts as a copy of the weights after this step."""
    swa: bool = False
    """Average the weights of every swa_every-th step while the learning-rate factor is below swa_start_factor."""
    swa_start_factor: float = 0.4
    """Learning-rate factor below which SWA collects weights."""
    swa_every: int = 50
    """Steps between two weights that SWA collects."""
    val_every: int = 0
    """Training steps between two validations, which run off the clock; 0: no validation during training."""
    val_batch_tokens: int = 524288
    """Tokens of a batch of the validation during training."""
    log_every: int = 100
    """Training steps between two lines of the log."""
    compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Number format of activations and products. auto: bfloat16 on a GPU and on a CPU with bf16 instructions, else
    float32."""
    embedding_dtype: Literal["compute", "float32"] = "compute"
    """Number format of the embedding tables and of their AdamW moments."""
    compile: Compile = "auto"
    """Whether training goes through torch.compile; auto: on a GPU."""
    replay_schedule: Path | None = None
    """A run directory whose recorded schedule (rates, momentum, last step) is followed instead of the clock."""
    checkpoint_seconds: float = later(60.0)
    """Training seconds between two checkpoints from which the run can go on (--resume); 0: none by the clock."""
    checkpoint_every: int = later(0)
    """Training steps between two checkpoints from which the run can go on; 0: none by the number of steps."""
    checkpoint_keep: int = later(2)
    """Number of checkpoints that are kept while a run goes on; a finished run needs and has none."""

    warmdown_frac: float = later(0.0)
    """Share of the run, by the clock if it has a time limit, over which the learning rate falls to zero at the end, in
    place of warmdown_steps; 0: that counts."""
    min_lr: float = later(0.0)
    """Least factor on the learning rates, at the end of the warmdown."""
    muon_coefficients: Coefficients = later("quintic")
    """Coefficients of Muon's Newton-Schulz: quintic (the same in each iteration), polar_express (Amsel et al.),
    polar_express_published (the five triples of the published top submission)."""
    muon_row_normalize: bool = later(False)
    """Divide each row of Muon's momentum by its L2 norm before Newton-Schulz."""
    table_weight_decay: float | None = later(None)
    """Decoupled weight decay of AdamW for the embedding tables, times the learning rate; None: weight_decay."""
    seq_growth: tuple[int, ...] = later(())
    """Lengths of the training rows before they have seq_len, in tokens, in their order; none: always seq_len."""
    seq_growth_until: tuple[float, ...] = later(())
    """Share of the run, by the clock if it has a time limit, up to which rows have each length of seq_growth."""
    window_growth: tuple[int, ...] = later(())
    """Positions that attention sees at most before its windows are the model's, each position's own included, in their
    order; none: always the model's."""
    window_growth_until: tuple[float, ...] = later(())
    """Share of the run, by the clock if it has a time limit, up to which each number of window_growth holds."""
    seq_ramp_steps: int = later(32)
    """Steps over which the learning rates rise from zero again after each change of the length of rows; 0: none."""
    loop_at: float = later(0.0)
    """Share of the run, by the clock if it has a time limit, from which on the model's loop (model.loops) is on."""
    dry_run: bool = later(False)
    """Make no run: see that its ranks fit together, and print what they exchange and hold, and the plan of time."""
    dry_run_ranks: int = later(8)
    """Number of ranks that dry_run goes through, on whatever machine."""

    def __post_init__(self) -> None:
        require_numbers(self, "train", warmup_steps=10**6, micro_batches=65536, seq_len=65536, muon_iterations=100)
        require(self.val_batch_tokens <= MOST_TOGETHER, "train.val_batch_tokens", self.val_batch_tokens, _TOGETHER)
        require_positive(self, "train", "max_steps", "batch_tokens", "micro_batches", "seq_len", "muon_iterations")
        require_positive(self, "train", "swa_every", "val_batch_tokens", "log_every", "adam_eps")
        require_not_negative(self, "train", "max_seconds", "warmdown_steps", "warmup_steps", "grad_clip", "val_every")
        require_not_negative(self, "train", "matrix_lr", "embed_lr", "head_lr", "tied_embed_lr", "scalar_lr")
        require_not_negative(self, "train", "muon_weight_decay", "weight_decay", "ema_start_step")
        require_not_negative(self, "train", "muon_momentum_warmup_steps")
        require_not_negative(self, "train", "checkpoint_seconds", "checkpoint_every")
        require_positive(self, "train", "checkpoint_keep", "dry_run_ranks")
        require_not_negative(self, "train", "seq_ramp_steps")
        for name in ("warmdown_frac", "min_lr", "loop_at"):
            require(0 <= getattr(self, name) <= 1, f"train.{name}", getattr(self, name), "from 0 to 1")
        decay = self.table_weight_decay
        require(decay is None or decay >= 0, "train.table_weight_decay", decay, "0 or more, or None")
        for name in ("muon_momentum", "muon_momentum_start", "beta1", "beta2", "ema_decay"):
            require(0 <= getattr(self, name) < 1, f"train.{name}", getattr(self, name), "at least 0 and below 1")
        self._check_lengths()
        for window in self.window_growth:
            require(0 < window <= MOST, "train.window_growth", window, f"from 1 to {MOST}")
        for name, values in (("seq_growth", self.seq_growth), ("window_growth", self.window_growth)):
            shares = getattr(self, f"{name}_until")
            rising = len(shares) == len(values) and all(a < b for a, b in pairwise((0, *shares, 1)))
            right = f"as many rising shares between 0 and 1 as {name} has numbers, {len(values)}"
            require(rising, f"train.{name}_until", " ".join(map(str, shares)) or "empty", right)

    @property
    def seq_lens(self) -> tuple[int, ...]:
        """Lengths of the training rows, in the order in which they come."""
        return (*self.seq_growth, self.seq_len)

    def _check_lengths(self) -> None:
        for name, length in [*(("seq_growth", length) for length in self.seq_growth), ("seq_len", self.seq_len)]:
            require(length > 0, f"train.{name}", length, "more than 0")
            piece = length * self.micro_batches
            require(
                self.batch_tokens % piece == 0,
                "train.batch_tokens",
                self.batch_tokens,
                f"a multiple of {name} * micro_batches = {length} * {self.micro_batches} = {piece}",
            )
