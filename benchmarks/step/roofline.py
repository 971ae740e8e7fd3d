"""The least time of each part of a training step: its floating-point operations or its bytes, whichever take longer.

What is counted is ideal fusion (docs/benchmarks.md, "Floors"): each tensor that must exist is written once and read
once by each product that needs it, and norms, activations, scales and residuals are fused into these and cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from golf_fast.config import ModelConfig, TrainConfig

PARTS = ("embedding", "QKV", "attention", "output + residual", "MLP + residual", "head + loss")


@dataclass(frozen=True)
class Ceilings:
    """What a device was seen to reach: a matrix product, and a copy (bytes read plus bytes written)."""

    teraflops: float
    gigabytes_per_second: float


@dataclass(frozen=True)
class Work:
    """A piece of a part, over all layers: what it computes and what it moves."""

    name: str
    flops: float
    bytes_moved: float

    def floor_ms(self, at: Ceilings) -> float:
        """Milliseconds, when all else hides behind the slower of the two."""
        return max(self.flops / at.teraflops / 1e9, self.bytes_moved / at.gigabytes_per_second / 1e6)


@dataclass(frozen=True)
class Shapes:
    """A micro-batch of `rows` times `length` tokens, activations of `itemsize` bytes."""

    model: ModelConfig
    rows: int
    length: int
    itemsize: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def stream(self) -> int:
        """Bytes of the residual stream, the unit that traffic is counted in."""
        return self.tokens * self.model.dim * self.itemsize

    @property
    def pairs(self) -> float:
        """Pairs of a query and a key that it sees, of a row in all runs of layers together."""
        windows = [self.model.windows[layer] for layer in self.model.looped_order]
        seen = (min(window or self.length, self.length) for window in windows)
        return sum(window * (window + 1) / 2 + (self.length - window) * window for window in seen)

    def product(self, columns: int, rows: int) -> float:
        """Operations of the activations times a matrix `[columns, rows]`."""
        return 2.0 * self.tokens * columns * rows


def forward(shapes: Shapes) -> dict[str, list[Work]]:
    """The pieces of each of `PARTS`."""
    m, unit, times = shapes.model, shapes.stream, len(shapes.model.looped_order)
    kv, hidden = m.kv_dim / m.dim, m.hidden / m.dim
    return {
        "embedding": [
            Work("embedding", shapes.product(m.bigram_dim, m.dim) if m.bigram_buckets else 0.0, 2.0 * unit),
        ],
        # The mix: the stream and x0 are read, their mix is written.
        "QKV": [Work("QKV", times * shapes.product(m.dim, m.dim + 2 * m.kv_dim), times * (4 + 2 * kv) * unit)],
        "attention": [Work("attention", 4.0 * shapes.rows * shapes.pairs * m.dim, times * (2 + 2 * kv) * unit)],
        "output + residual": [Work("output + residual", times * shapes.product(m.dim, m.dim), times * 3 * unit)],
        "MLP + residual": [
            Work("MLP up", times * shapes.product(m.dim, m.hidden), times * (1 + hidden) * unit),
            Work("MLP down + residual", times * shapes.product(m.hidden, m.dim), times * (2 + hidden) * unit),
        ],
        "head + loss": [Work("head + loss", shapes.product(m.dim, m.vocab_size), 1.0 * unit)],
    }


def backward(shapes: Shapes) -> dict[str, list[Work]]:
    """The pieces of each of `PARTS`; the row sums of the norms are fused (docs/kernels/)."""
    m, unit, times = shapes.model, shapes.stream, len(shapes.model.looped_order)
    kv, hidden = m.kv_dim / m.dim, m.hidden / m.dim
    qkv = 1 + 2 * kv
    up, square = shapes.product(m.dim, m.hidden), shapes.product(m.dim, m.dim)
    project = shapes.product(m.dim, m.dim + 2 * m.kv_dim)
    bigram = m.bigram_dim / m.dim if m.bigram_buckets else 0.0
    of_attention = forward(shapes)["attention"][0]
    return {
        "embedding": [Work("embedding", 2 * bigram * square, (4 + 3 * bigram) * unit)],
        "QKV": [
            # The stream and its gradient for the norm and the residual, and the gradient written.
            Work("dx (attention)", times * project, times * (3 + qkv) * unit),
            Work("dWqkv", times * project, times * (1 + qkv) * unit),
            # Each block's mix reads x0 for its own gradient, and adds to that of x0: read and written.
            Work("mix", 0.0, times * 3 * unit),
        ],
        # Its inputs, its output and the gradient of that; written is one packed gradient. What norm and rotation of
        # queries and keys need is among these.
        "attention": [Work("attention", 2.5 * of_attention.flops, 2 * of_attention.bytes_moved)],
        "output + residual": [
            Work("dO", times * square, times * 2 * unit),
            Work("dWo", times * square, times * 2 * unit),
        ],
        "MLP + residual": [
            Work("dpre", times * up, times * (1 + 2 * hidden) * unit),
            Work("dW up + dW down", times * 2 * up, times * 2 * (1 + hidden) * unit),
            Work("dx (MLP)", times * up, times * (3 + hidden) * unit),
        ],
        "head + loss": [Work("head", 2 * shapes.product(m.dim, m.vocab_size), 3.0 * unit)],
    }


def optimizer(
    banks: list[tuple[int, ...]], others: int, train: TrainConfig, itemsize: int, *, average: bool
) -> dict[str, list[Work]]:
    """The pieces of an update on one device that shares it with no other.

    Args:
        banks: shapes of what Muon updates, `[n, rows, cols]` or `[rows, cols]`, float32.
        others: bytes of the parameters that AdamW updates.
        train: how often Newton-Schulz iterates.
        itemsize: bytes of a number in Newton-Schulz.
        average: whether the weights are averaged every step.
    """
    elements = flops = 0.0
    for *count, rows, columns in banks:
        number = count[0] if count else 1
        short, long = min(rows, columns), max(rows, columns)
        elements += number * rows * columns
        # X X^T and A A are symmetric, so a triangle of each is enough.
        flops += number * train.muon_iterations * (3.0 * short * short * long + short**3)
    parameters = 4 * elements + others
    pieces = {
        # The gradients are read once; the clip factor is applied in the updates.
        "clip": [Work("norm", 0.0, parameters)],
        "Muon": [
            Work("Newton-Schulz", flops, 2 * itemsize * elements),
            # Momentum and weights read and written, gradients and updates read, directions written.
            Work("momentum and update", 0.0, (5 * 4 + 2 * itemsize) * elements),
        ],
        # The parameter and its two moments read and written, the gradient read.
        "AdamW": [Work("AdamW", 0.0, 7.0 * others)],
    }
    if average:
        pieces["average"] = [Work("average", 0.0, 3.0 * parameters)]
    return pieces


def floor_ms(pieces: list[Work], at: Ceilings) -> float:
    """Milliseconds of pieces that run one after the other."""
    return sum(piece.floor_ms(at) for piece in pieces)


def flops(shapes: Shapes) -> float:
    """Floating-point operations of a micro-step, forward and backward."""
    ways = (forward(shapes), backward(shapes))
    return sum(piece.flops for way in ways for pieces in way.values() for piece in pieces)
