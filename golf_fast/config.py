"""What a run is: one frozen dataclass per stage, checked when it is made.

Defaults are those of the seed (the published 25.5 M-parameter submission, with legal test-time training).
The named variants are in `golf_fast.recipes`. Importing this module imports no stage.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from golf_fast.checks import MOST, later, require, require_not_negative, require_numbers, require_positive
from golf_fast.compress_config import CodecName, CompressConfig
from golf_fast.score_config import MOST_TOGETHER, Compile, ScoreConfig, compiles

__all__ = [
    "CodecName",
    "Compile",
    "CompressConfig",
    "DataConfig",
    "ModelConfig",
    "RunConfig",
    "ScoreConfig",
    "TrainConfig",
    "compiles",
]

_TOGETHER = f"at most {MOST_TOGETHER} tokens"


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model (docs/seed.md defines it)."""

    vocab_size: int = 1024
    """Entries of the tokenizer, and rows of the embedding."""
    dim: int = 512
    """Width of the residual stream."""
    layers: int = 10
    """Blocks; the first half feeds the second through skip connections."""
    heads: int = 8
    """Query heads; each is dim / heads wide."""
    kv_heads: int = 4
    """Key/value heads, shared by groups of heads / kv_heads query heads."""
    mlp_mult: float = 3.0
    """Hidden width of the MLP as a multiple of dim."""
    tied_embeddings: bool = True
    """Use the token embedding as the output matrix."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies."""
    rope_bf16_frequencies: bool = False
    """Round the rotary frequencies to bf16, as checkpoints trained by the published script need."""
    logit_softcap: float = 30.0
    """Logits are softcap * tanh(logits / softcap)."""
    qk_gain_init: float = 1.5
    """Initial value of the learned gain of each query head."""
    embedding_init_std: float = 0.005
    """Standard deviation of the initial token embedding."""
    bigram_buckets: int = 10240
    """Rows of the hashed bigram table; 0 leaves the bigram embedding out."""
    bigram_dim: int = 128
    """Width of the bigram table, before it is projected to dim."""
    backout: bool = True
    """Subtract a learned share of a middle block's output from the last block's."""
    backout_lambda_init: float = 0.2
    """Initial value of the learned share of the backout."""
    backout_layer: int = -1
    """Block whose output the backout subtracts; -1 takes layers // 2."""
    window: tuple[int, ...] = later((0,))
    """Positions that attention sees, each position's own included; 0: all before it. One number for all blocks, or one
    for each."""

    def __post_init__(self) -> None:
        require_numbers(self, "model", dim=65536, layers=1024, mlp_mult=1024, bigram_buckets=1 << 24, bigram_dim=65536)
        require_positive(self, "model", "vocab_size", "dim", "layers", "heads", "kv_heads", "mlp_mult", "bigram_dim")
        require_positive(self, "model", "rope_base", "logit_softcap", "embedding_init_std")
        require(self.rope_base >= 1, "model.rope_base", self.rope_base, "at least 1")
        require(self.vocab_size <= 65536, "model.vocab_size", self.vocab_size, "at most 65536, for 16-bit shards")
        require(self.dim % self.heads == 0, "model.heads", self.heads, f"a divisor of model.dim = {self.dim}")
        require(self.head_dim % 2 == 0, "model.dim / model.heads", self.head_dim, "even, for rotary pairs")
        require(self.heads % self.kv_heads == 0, "model.kv_heads", self.kv_heads, f"a divisor of heads = {self.heads}")
        require(self.hidden >= 1, "model.mlp_mult", self.mlp_mult, "enough for one hidden unit")
        require(
            self.bigram_buckets != 1 and self.bigram_buckets >= 0,
            "model.bigram_buckets",
            self.bigram_buckets,
            "0 or at least 2",
        )
        require(-1 <= self.backout_layer < self.layers, "model.backout_layer", self.backout_layer, "-1 or a block")
        numbers = f"one number for all blocks, or {self.layers}, one for each"
        require(len(self.window) in (1, self.layers), "model.window", self.window, numbers)
        require(all(0 <= window <= MOST for window in self.window), "model.window", self.window, "0 or more for each")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def kv_dim(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def hidden(self) -> int:
        return int(self.mlp_mult * self.dim)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each block; None: all positions before."""
        each = self.window if len(self.window) == self.layers else self.window * self.layers
        return tuple(window or None for window in each)

    @property
    def backout_block(self) -> int:
        return self.layers // 2 if self.backout_layer < 0 else self.backout_layer


@dataclass(frozen=True)
class DataConfig:
    """Where text and tokens come from."""

    source: Literal["auto", "embedded", "text", "shards"] = "auto"
    """Kind of input. auto: `text` if it is given, else the shards if they are there, else (without a GPU) the embedded
    corpus."""
    text: Path | None = None
    """A text file, a JSONL file with a "text" field, or a folder of them, to train on and hold some of it out."""
    shards: Path = Path("data/datasets/fineweb10B_sp1024")
    """A folder of *_train_*.bin and *_val_*.bin shards in the challenge's format."""
    tokenizer: Path = Path("data/tokenizers/fineweb_1024_bpe.model")
    """The SentencePiece model that the shards were made with."""
    built: Path = Path("data/built")
    """Where shards made from text are kept, one folder per corpus, tokenizer and split."""
    val_fraction: float = 0.1
    """Share of the documents of a text that is held out for validation."""

    def __post_init__(self) -> None:
        require_numbers(self, "data")
        require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "between 0 and 1")
        require(self.source != "text" or self.text is not None, "data.source", "text", "used with a path in data.text")


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

    def __post_init__(self) -> None:
        require_numbers(self, "train", warmup_steps=10**6, micro_batches=65536, seq_len=65536, muon_iterations=100)
        require(self.val_batch_tokens <= MOST_TOGETHER, "train.val_batch_tokens", self.val_batch_tokens, _TOGETHER)
        require_positive(self, "train", "max_steps", "batch_tokens", "micro_batches", "seq_len", "muon_iterations")
        require_positive(self, "train", "swa_every", "val_batch_tokens", "log_every", "adam_eps")
        require_not_negative(self, "train", "max_seconds", "warmdown_steps", "warmup_steps", "grad_clip", "val_every")
        require_not_negative(self, "train", "matrix_lr", "embed_lr", "head_lr", "tied_embed_lr", "scalar_lr")
        require_not_negative(self, "train", "muon_weight_decay", "weight_decay", "ema_start_step")
        require_not_negative(self, "train", "muon_momentum_warmup_steps")
        for name in ("muon_momentum", "muon_momentum_start", "beta1", "beta2", "ema_decay"):
            require(0 <= getattr(self, name) < 1, f"train.{name}", getattr(self, name), "at least 0 and below 1")
        piece = self.seq_len * self.micro_batches
        require(
            self.batch_tokens % piece == 0,
            "train.batch_tokens",
            self.batch_tokens,
            f"a multiple of seq_len * micro_batches = {self.seq_len} * {self.micro_batches} = {piece}",
        )


@dataclass(frozen=True)
class RunConfig:
    """One run, from text to a scored artifact."""

    recipe: str = "seed"
    """The named variant that the run started from."""
    seed: int = 42
    """Seed of everything random."""
    run_id: str = ""
    """Name of the run directory; empty: recipe, date and time."""
    runs_dir: Path = Path("runs")
    """Where run directories are made."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to run on; auto: a GPU if torch sees one."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        require(-(2**63) <= self.seed < 2**64, "seed", self.seed, "of at most 64 bits, from -2^63 to 2^64 - 1")
        require(
            not self.run_id
            or (Path(self.run_id).name == self.run_id and self.run_id != ".." and self.run_id.isprintable()),
            "run_id",
            ascii(self.run_id),
            "a plain name, no path",
        )
        if self.score.streaming:
            windows = f"without a 0 where score.streaming is on; {self.model.window} sees all positions before"
            require(None not in self.model.windows, "model.window", self.model.window, windows)
        if self.score.ttt != "off":
            require(
                self.score.ttt_freeze_blocks <= self.model.layers,
                "score.ttt_freeze_blocks",
                self.score.ttt_freeze_blocks,
                f"at most {self.model.layers}, the blocks of the model",
            )

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
