"""The shape of the model, checked when it is made. Importing this module imports no stage."""

from __future__ import annotations

from dataclasses import dataclass

from golf_fast.checks import MOST, later, require, require_numbers, require_positive


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

    separate_documents: bool = later(False)
    """Attention and smear see nothing before the document's start, in training, calibration and scoring alike."""

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
