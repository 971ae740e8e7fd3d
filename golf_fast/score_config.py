"""The configuration of scoring and of test-time training: one frozen dataclass per strategy, checked on construction.

`golf_fast.config` has the rest of what a run is, and gives `ScoreConfig` too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from golf_fast.checks import later, require, require_not_negative, require_numbers, require_positive

Compile = Literal["auto", "on", "off"]
StrategyName = Literal["off", "chunked", "documents", "phased", "held_out", "train_then_score"]
"""The strategies of `golf_fast.score.ttt`."""
MOST_TOGETHER = 1 << 22
"""Most tokens that a rank may score in one pass of the model, whose activations are in memory together."""
_TOGETHER = f"at most {MOST_TOGETHER} tokens"


def compiles(setting: Compile, device_type: str) -> bool:
    """Whether a model on a device of this type ("cpu", "cuda") goes through torch.compile; auto: on a GPU."""
    return setting == "on" or (setting == "auto" and device_type == "cuda")


@dataclass(frozen=True)
class DocumentsConfig:
    """Low-rank adapters (LoRA) for each document, under the strategies documents and phased."""

    rank: int = 80
    """Rank of the adapters."""
    alpha: float = 144.0
    """What an adapter gives is multiplied with alpha / rank."""
    lr: float = 1e-4
    """Learning rate of AdamW, constant."""
    beta1: float = 0.0
    """Decay of AdamW's running mean of an adapter's gradients."""
    beta2: float = 0.99
    """Decay of AdamW's running mean of their squares."""
    eps: float = 1e-10
    """Epsilon of AdamW."""
    weight_decay: float = 0.5
    """Decoupled weight decay of AdamW, times the learning rate."""
    chunk_tokens: int = 48
    """Tokens of a document that are scored before its adapters take a step on them."""
    context: int = 2048
    """Greatest length of what a chunk is predicted from, the chunk included, in tokens; within the document."""
    batch: int = 64
    """Documents that a rank adapts to at a time."""
    q: bool = True
    """Whether the queries of every block have adapters."""
    k: bool = True
    """Whether the keys of every block have adapters."""
    v: bool = True
    """Whether the values of every block have adapters."""
    o: bool = True
    """Whether the attention of every block has an adapter from its input to its output."""
    mlp: bool = True
    """Whether the MLP of every block has an adapter from its input to its output."""
    head: bool = True
    """Whether the logits have an adapter."""
    order: Literal["stream", "length"] = "stream"
    """Order in which documents are scored: as they come, or the longest first, which packs them better. The result
    says which."""

    def __post_init__(self) -> None:
        name = "score.documents"
        require_numbers(self, name, rank=65536, context=65536)
        require_positive(self, name, "rank", "alpha", "eps", "chunk_tokens", "context", "batch")
        together = self.context * self.batch
        require(together <= MOST_TOGETHER, f"{name}.context * {name}.batch", together, _TOGETHER)
        require_not_negative(self, name, "lr", "weight_decay")
        for beta in ("beta1", "beta2"):
            require(0 <= getattr(self, beta) < 1, f"{name}.{beta}", getattr(self, beta), "at least 0 and below 1")
        require(
            self.chunk_tokens <= self.context,
            f"{name}.chunk_tokens",
            self.chunk_tokens,
            f"at most {name}.context = {self.context}",
        )
        require(
            any((self.q, self.k, self.v, self.o, self.mlp, self.head)),
            f"{name}.q, k, v, o, mlp and head",
            "all off",
            "on, one of them at the least",
        )


@dataclass(frozen=True)
class PhasedConfig:
    """Passes of SGD on all weights over the documents scored so far, under the strategy phased."""

    documents: int = 2500
    """Number of scored documents after which the last pass is made."""
    phases: int = 3
    """Number of passes, each after an equal part of these documents."""
    again: bool = True
    """Whether a pass takes the documents of earlier passes again; off: only those scored since the last one."""
    lr: float = 0.001
    """Learning rate of SGD at the first chunk of a pass; it falls along half a cosine to 0 at the last."""
    momentum: float = 0.9
    """Momentum of SGD, fresh in every pass."""
    epochs: int = 1
    """Number of times that each chunk of a pass is trained on."""
    chunk_tokens: int = 32768
    """Tokens of a chunk: what shares one learning rate."""
    batch_rows: int = 32
    """Rows of a step, over all ranks."""
    grad_clip: float = 1.0
    """Limit of the L2 norm over all gradients of a pass; 0: none."""

    def __post_init__(self) -> None:
        name = "score.phased"
        require_numbers(self, name, epochs=1000, batch_rows=65536, phases=65536)
        require_positive(self, name, "documents", "phases", "epochs", "chunk_tokens", "batch_rows")
        require_not_negative(self, name, "lr", "grad_clip")
        require(0 <= self.momentum < 1, f"{name}.momentum", self.momentum, "at least 0 and below 1")
        require(
            self.phases <= self.documents, f"{name}.phases", self.phases, f"at most {name}.documents = {self.documents}"
        )


@dataclass(frozen=True)
class HeldOutConfig:
    """SGD on a slice of the training tokens before anything is scored, under the strategy held_out."""

    tokens: int = 131072
    """Training tokens of the slice: the last of the training shards."""
    lr: float = 0.002
    """Learning rate of SGD at the first step; it falls along half a cosine to 0 at the last."""
    momentum: float = 0.9
    """Momentum of SGD."""
    epochs: int = 1
    """Number of times that the slice is trained on."""
    batch_rows: int = 32
    """Rows of a step, over all ranks."""
    grad_clip: float = 1.0
    """Limit of the L2 norm over all gradients of a step; 0: none."""

    def __post_init__(self) -> None:
        name = "score.held_out"
        require_numbers(self, name, epochs=1000, batch_rows=65536)
        require_positive(self, name, "tokens", "epochs", "batch_rows")
        require_not_negative(self, name, "lr", "grad_clip")
        require(0 <= self.momentum < 1, f"{name}.momentum", self.momentum, "at least 0 and below 1")


@dataclass(frozen=True)
class ScoreConfig:
    """From an artifact and validation tokens to bits per byte."""

    window: int = 2048
    """Length of a sliding window, and of a row of test-time training, in tokens."""
    stride: int = 64
    """Tokens between the starts of two windows."""
    batch_windows: int = 32
    """Windows that a rank scores at a time."""
    max_seconds: float = later(0.0)
    """Time limit of scoring: adapting is cut down so far that a score comes out in time; 0: no limit."""
    ttt: StrategyName = "chunked"
    """Test-time training. chunked: each chunk is trained on after it is scored. documents: each document has low-rank
    adapters of its own. phased: as documents, and the weights train on what is scored. held_out: the weights train on
    training tokens before the scoring. train_then_score: the seed's published protocol, which is not legal."""
    ttt_optimizer: Literal["sgd", "adamw"] = later("sgd")
    """Optimizer of the chunked protocol; adamw has the betas ttt_momentum and 0.95 and no weight decay."""
    ttt_lr: float = 0.002
    """Initial learning rate in test-time training, of the chunked and the published protocol."""
    ttt_schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate of test-time training over the chunks."""
    ttt_momentum: float = 0.9
    """Momentum in test-time training, carried from chunk to chunk."""
    ttt_epochs: int = 3
    """Number of times that each scored chunk is trained on."""
    ttt_chunk_tokens: int = 32768
    """Tokens that are scored before the weights adapt to them."""
    ttt_batch_rows: int = 32
    """Rows of a step of test-time training: over all ranks in the chunked protocol, for each rank in the published
    one."""
    ttt_freeze_blocks: int = 0
    """Number of blocks, from the first on, that test-time training of the weights leaves as they are."""
    ttt_grad_clip: float = 1.0
    """Limit of the L2 norm over all gradients in test-time training; 0: none."""
    documents: DocumentsConfig = later(DocumentsConfig())
    phased: PhasedConfig = later(PhasedConfig())
    held_out: HeldOutConfig = later(HeldOutConfig())
    streaming: bool = later(False)
    """Score in one pass along the stream in place of windows: exact where every block has a model.window, and without
    test-time training only. Each token is predicted from all that can reach it."""
    compile: Compile = "auto"
    """Whether scoring and test-time training go through torch.compile; auto: on a GPU."""
    allow_illegal: bool = False
    """Run a protocol that the rules forbid; every output then says so."""

    def __post_init__(self) -> None:
        require_numbers(self, "score", window=65536, ttt_epochs=1000, ttt_batch_rows=65536)
        require_positive(self, "score", "window", "stride", "batch_windows", "ttt_epochs", "ttt_batch_rows")
        require_not_negative(self, "score", "ttt_lr", "ttt_freeze_blocks", "ttt_grad_clip", "max_seconds")
        together = self.window * self.batch_windows
        require(together <= MOST_TOGETHER, "score.window * score.batch_windows", together, _TOGETHER)
        require(self.stride <= self.window, "score.stride", self.stride, f"at most score.window = {self.window}")
        require(0 <= self.ttt_momentum < 1, "score.ttt_momentum", self.ttt_momentum, "at least 0 and below 1")
        names = get_args(StrategyName)
        require(self.ttt in names, "score.ttt", self.ttt, f"one of {', '.join(names)}")
        require(not self.streaming or self.ttt == "off", "score.streaming", "True", "off, or score.ttt off")
        require(
            self.ttt_chunk_tokens >= self.window,
            "score.ttt_chunk_tokens",
            self.ttt_chunk_tokens,
            f"at least score.window = {self.window}",
        )

    @property
    def violations(self) -> list[str]:
        """Rules that the protocol breaks, by their number in the rules (V1: train, then score)."""
        return ["V1"] if self.ttt == "train_then_score" else []
