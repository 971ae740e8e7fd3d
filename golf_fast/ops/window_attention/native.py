"""Attention on a CPU: products of PyTorch's, and between them the softmax of a block in one pass in C++, each way.

As in `blocked`, a block of queries meets only the keys that some query of it sees. What a query does not see is left
out in the pass, so that no mask is made. Positions are outermost: the queries of a block, all heads of their key/value
head, are consecutive rows of one matrix.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from golf_fast.ops import passes
from golf_fast.ops.window_attention.blocked import MIN_BLOCK, Piece, pieces
from golf_fast.ops.window_attention.reference import document_bounds

KEPT_KEYS = 512
"""Keys to a query whose shares are kept for the backward where rows hold documents."""


class Blocks:
    """The products of attention over `pieces`, for matrices `[N, queries * group, head_dim]` of queries.

    Keys and values are `[N, T, head_dim]`. The shares that the softmax leaves are one flat tensor, block after block.
    Where documents cut the positions into rows of one length, each row is a matrix of its own (see `folds_of`).
    """

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, queries: int, window: int | None, cu_seqlens: torch.Tensor | None
    ) -> None:
        count, length, self.head_dim = k.shape
        firsts = None if cu_seqlens is None or queries < length else document_bounds(cu_seqlens, length)[0]
        self.folds = 1 if firsts is None else folds_of(firsts)
        self.matrices = count * self.folds
        if self.folds > 1 and firsts is not None:
            self.pieces = _pieces_of_folds(firsts, self.folds, window)
        else:
            self.pieces = pieces(queries, length, window, cu_seqlens)
        self.group = q.shape[1] // max(queries, 1)
        self.before = length - queries

    @property
    def size(self) -> int:
        """The number of softmax weights (shares) of all blocks."""
        return sum(math.prod(self._shape(piece)) for piece in self.pieces)

    def _shape(self, piece: Piece) -> tuple[int, int, int]:
        return self.matrices, (piece.stop - piece.start) * self.group, piece.stop - piece.first

    def _folded(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Contiguous matrices `[N, rows, head_dim]` as one for each row of positions."""
        rows = [tensor.shape[1] // self.folds for tensor in tensors]
        return [tensor.view(self.matrices, n, self.head_dim) for tensor, n in zip(tensors, rows, strict=True)]

    def _own(self, tensor: torch.Tensor, piece: Piece) -> torch.Tensor:
        """The rows of a piece of a tensor `[matrices, queries * group, head_dim]`."""
        start, stop = piece.start - self.before, piece.stop - self.before
        return tensor[:, start * self.group : stop * self.group]

    def _each(self, shares: torch.Tensor | None) -> list[tuple[Piece, torch.Tensor | None]]:
        if shares is None:
            return [(piece, None) for piece in self.pieces]
        at = 0
        found: list[tuple[Piece, torch.Tensor | None]] = []
        for piece in self.pieces:
            shape = self._shape(piece)
            found.append((piece, shares[at : at + math.prod(shape)].view(shape)))
            at += math.prod(shape)
        return found

    def _sizes(self, piece: Piece, scores: torch.Tensor) -> tuple[float, ...]:
        return (*scores.shape, self.group, piece.start - piece.first, self.folds, self.head_dim**-0.5)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor | None, shares: torch.Tensor | None
    ) -> None:
        """Write the output of attention into `out`, in the shape of `q`, and the shares into `shares`, if not None."""
        q, k, v = self._folded(q, k, v)
        if out is not None:
            (out,) = self._folded(out)
        for piece, share in self._each(shares):
            seen = slice(piece.first, piece.stop)
            scores = torch.bmm(self._own(q, piece), k[:, seen].mT, out=share)
            passes.run("causal_softmax", scores, scores, piece.lows, *self._sizes(piece, scores))
            if out is not None:
                torch.bmm(scores, v[:, seen], out=self._own(out, piece))

    def backward(
        self, grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shares: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of q, k and v."""
        found = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_q, d_k, d_v, grad, q, k, v = self._folded(*found, grad, q, k, v)
        for piece, share in self._each(shares):
            assert share is not None
            seen = slice(piece.first, piece.stop)
            of_out = self._own(grad, piece)
            d_v[:, seen] += torch.bmm(share.mT, of_out)
            change = torch.bmm(of_out, v[:, seen].mT)
            passes.run("causal_softmax_gradient", change, change, share, piece.lows, *self._sizes(piece, change))
            torch.bmm(change, k[:, seen], out=self._own(d_q, piece))
            d_k[:, seen] += torch.bmm(change.mT, self._own(q, piece))
        return found


def folds_of(firsts: torch.Tensor) -> int:
    """The largest number of rows of equal length, each beginning with a document, that the positions can be cut
    into, of at least MIN_BLOCK positions each; 1 if there is none.

    A batch that was joined of several is such, and each row then meets no key of another: the products are as many, and
    as large, as for rows without documents. `firsts` is the first position of each one's document, `[T]`.
    """
    found = firsts.numpy()
    for count in range(len(found) // MIN_BLOCK, 1, -1):
        size = len(found) // count
        if len(found) % count == 0 and (found[::size] == np.arange(0, len(found), size)).all():
            return count
    return 1


def _pieces_of_folds(firsts: torch.Tensor, folds: int, window: int | None) -> list[Piece]:
    """The blocks of each row; `lows` are `[folds, stop - start]` where a document starts within some row."""
    size = len(firsts) // folds
    inside = firsts.view(folds, size) - size * torch.arange(folds, dtype=firsts.dtype)[:, None]
    made = pieces(size, size, window, None)
    if not inside.any():
        return [piece if piece.lows is None else replace(piece, lows=piece.lows.repeat(folds, 1)) for piece in made]
    lows = [(inside[:, piece.start : piece.stop] - piece.first).clamp(min=0) for piece in made]
    return [
        replace(piece, lows=own if piece.lows is None else own.maximum(piece.lows))
        for piece, own in zip(made, lows, strict=True)
    ]


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: torch.Size,
    kv_heads: int,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
    gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output of attention for matrices q, k and v, of the shape `heads` `[B, T, heads, head_dim]`, and the tensors
    saved for the backward (see `like_saved`)."""
    blocks, found = Blocks(q, k, heads[1], window, cu_seqlens), torch.empty_like(q)
    shares = new_shares(q, k, cu_seqlens) if gradient else q.new_empty(0)
    blocks.forward(q, k, v, found, shares if gradient and blocks.size <= shares.numel() else None)
    out = torch.empty(heads, dtype=q.dtype)
    from_matrices(found, out, kv_heads)
    if not gradient:
        q, k, v = (t.new_empty(0) for t in (q, k, v))
    return out, q, k, v, shares


def like_saved(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor | None, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tensors like those that `forward` saves for the backward, not filled: q, k and v as matrices, and the shares.

    Without `gradient` they have no elements.
    """
    new_q, new_k, new_v = (matrices(t, k.shape[2]) if gradient else t.new_empty(0) for t in (q, k, v))
    return new_q, new_k, new_v, new_shares(new_q, new_k, cu_seqlens) if gradient else q.new_empty(0)


def backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    shares: torch.Tensor,
    queries: int,
    window: int | None,
    cu_seqlens: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of matrices q, k and v from that of what `queries` positions found; `shares` are as `forward` left
    them."""
    blocks = Blocks(q, k, queries, window, cu_seqlens)
    if blocks.size > shares.numel():
        shares = q.new_empty(blocks.size)
        blocks.forward(q, k, v, None, shares)
    return blocks.backward(grad, q, k, v, shares)


def new_shares(q: torch.Tensor, k: torch.Tensor, cu_seqlens: torch.Tensor | None) -> torch.Tensor:
    """Room for the shares of all blocks of matrices q and k, flat: as for full rows, in which only as much memory is
    touched as the blocks need.

    With documents their number depends on these, and a row holds many: there is room for KEPT_KEYS keys to a query.
    What is larger is not kept, and computed again.
    """
    keys = k.shape[1] if cu_seqlens is None else min(k.shape[1], KEPT_KEYS)
    return q.new_empty(k.shape[0] * q.shape[1] * keys)


def matrices(heads: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Heads `[B, T, heads, head_dim]` as new matrices `[B * kv_heads, T * group, head_dim]`, not yet filled."""
    rows, length, count, head_dim = heads.shape
    return heads.new_empty(rows * kv_heads, length * (count // kv_heads), head_dim)


def heads_of(matrix: torch.Tensor, kv_heads: int, length: int) -> list[torch.Tensor]:
    """Views `[B, T, group, head_dim]` of matrices `[B * kv_heads, T * group, head_dim]`, one for each kv head."""
    parts = matrix.view(matrix.shape[0] // kv_heads, kv_heads, length, -1, matrix.shape[2])
    return list(parts.unbind(1))


def copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy heads `[B, T, heads, head_dim]` of any layout with a last stride of 1 into such a layout."""
    if source.numel():
        passes.run("copy_heads", source, passes.view(source), passes.view(target), *source.shape)


def to_matrices(heads: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Heads `[B, T, heads, head_dim]` copied into matrices `[B * kv_heads, T * group, head_dim]`."""
    heads = heads if heads.stride(3) == 1 else heads.contiguous()
    made = matrices(heads, kv_heads)
    for source, target in zip(heads.chunk(kv_heads, dim=2), heads_of(made, kv_heads, heads.shape[1]), strict=True):
        copy(source, target)
    return made


def from_matrices(matrix: torch.Tensor, heads: torch.Tensor, kv_heads: int) -> None:
    """Copy matrices back into `heads` `[B, T, heads, head_dim]`."""
    parts = zip(heads_of(matrix, kv_heads, heads.shape[1]), heads.chunk(kv_heads, dim=2), strict=True)
    for source, target in parts:
        copy(source, target)
