"""The configuration of the model, checked on construction. Importing this module imports no stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    negative_slope: float = later(0.0)
    """Slope of the MLP's squared LeakyReLU below 0; 0: a squared ReLU."""
    smear: Literal["off", "after_norm", "before_norm"] = later("after_norm")
    """How the token before is mixed into the embedding: not at all, after its norm by a gate of each channel, or before
    it by a gate that reads the token."""
    smear_window: int = later(12)
    """Channels of the embedding that the smear's gate reads, before the norm."""
    smear_bos: int = later(1)
    """Token that begins a document: the smear before the norm mixes nothing into it; -1: into every one."""
    rope_dims: int = later(0)
    """Channels of a head that the rotary embedding turns; 0: all."""
    norm_scale: bool = later(False)
    """Scale what attention and MLP of block n read by 1 / sqrt(n + 1), n from 0 on."""
    xsa_layers: int = later(0)
    """Last blocks whose heads lose what points along their own value (exclusive self-attention)."""
    attention_gate: bool = later(False)
    """Gate the output of each head by a few channels of what attention reads."""
    attention_gate_window: int = later(12)
    """Channels that the gates of the heads read."""
    attention_gate_scale: float = later(1.0)
    """Factor of the gates' logits."""
    skip_gates: bool = later(False)
    """Interpolate between the stream and a skip by a learned gate of each channel, in place of adding the skip."""
    loops: int = later(0)
    """Times that a stretch of blocks is run again; training begins without (train.loop_at)."""
    loop_start: int = later(3)
    """First block of the stretch that is run again."""
    loop_end: int = later(5)
    """Last block of the stretch that is run again."""
    lanes_from: int = later(0)
    """Block from which on attention and MLP have a stream each, with learned routing; 0: they share one."""
    lanes_end: Literal["mean", "mlp", "attention"] = later("mean")
    """The stream that goes on to the logits where there are two: their mean, or one of them."""

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
        self._require_later()

    def _require_later(self) -> None:
        def within(name: str, least: int, most: int, words: str) -> None:
            value = getattr(self, name)
            require(least <= value <= most, f"model.{name}", value, words)

        require(0 <= self.negative_slope < 1, "model.negative_slope", self.negative_slope, "at least 0 and below 1")
        for name in ("smear_window", "attention_gate_window"):
            within(name, 1, MOST, "at least 1")
        if self.smear == "before_norm":
            within("smear_window", 1, self.dim, f"at most {self.dim}, the width of the stream")
        if self.attention_gate:
            within("attention_gate_window", 1, self.dim, f"at most {self.dim}, the width of the stream")
        within("smear_bos", -1, self.vocab_size - 1, "-1 or a token")
        within("rope_dims", 0, self.head_dim, f"0, or an even number of at most {self.head_dim}, the width of a head")
        require(self.rope_dims % 2 == 0, "model.rope_dims", self.rope_dims, "even, for rotary pairs")
        within("xsa_layers", 0, self.layers, f"0 to {self.layers}, the blocks of the model")
        within("loops", 0, 64, "0 to 64")
        within("lanes_from", 0, self.layers - 1, "0 or a block")
        if self.loops:
            within("loop_end", 0, self.layers - 1, "a block")
            within("loop_start", 0, self.loop_end, f"a block, at most loop_end = {self.loop_end}")
        if self.lanes_from:
            self._require_lanes()

    def _require_lanes(self) -> None:
        """Two streams are no one output: what a later block takes and the backout reads must come before them."""
        orders = (tuple(range(self.layers)), self.looped_order)
        first = max(max(order[: len(order) // 2], default=0) for order in orders) + 1
        if self.loops:
            first = max(first, self.loop_end + 1)
        if self.backout:
            first = max(first, self.backout_block + 1)
        words = f"0, or a block from {first} on, behind the first half, the loop and the block of the backout"
        require(self.lanes_from >= first, "model.lanes_from", self.lanes_from, words)

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def norm_scales(self) -> tuple[float, ...]:
        """Factor of what attention and MLP of each block read."""
        return tuple((block + 1) ** -0.5 if self.norm_scale else 1.0 for block in range(self.layers))

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that turn."""
        return self.rope_dims or self.head_dim

    @property
    def looped_order(self) -> tuple[int, ...]:
        """The blocks in the order in which they run once the loop is on."""
        if not self.loops:
            return tuple(range(self.layers))
        stretch = range(self.loop_start, self.loop_end + 1)
        return (*range(self.loop_start), *(tuple(stretch) * (self.loops + 1)), *range(self.loop_end + 1, self.layers))

    @property
    def skip_rows(self) -> int:
        """Skips of the longest pass through the blocks."""
        return len(self.looped_order) // 2

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
