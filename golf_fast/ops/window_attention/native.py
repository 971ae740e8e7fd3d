"""Attention on a CPU: products of PyTorch's, and between them the softmax of a block in one pass in C++, each way.

As in `blocked`, a block of queries meets only the keys that some query of it sees. What a query does not see is left
out in the pass, so that no mask is made. Positions are outermost: the queries of a block, all heads of their key/value
head, are consecutive rows of one matrix.
"""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.window_attention.blocked import Piece, pieces


class Blocks:
    """The products of attention over `pieces`, for matrices `[N, queries * group, head_dim]` of queries.

    Keys and values are `[N, T, head_dim]`. The shares that the softmax leaves are one flat tensor, block after block.
    """

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, queries: int, window: int | None, cu_seqlens: torch.Tensor | None
    ) -> None:
        self.matrices, length, self.head_dim = k.shape
        self.pieces = pieces(queries, length, window, cu_seqlens)
        self.group = q.shape[1] // max(queries, 1)
        self.before = length - queries

    def _own(self, tensor: torch.Tensor, piece: Piece) -> torch.Tensor:
        """The rows of a piece of a tensor `[N, queries * group, head_dim]`."""
        start, stop = piece.start - self.before, piece.stop - self.before
        return tensor[:, start * self.group : stop * self.group]

    def _each(self, shares: torch.Tensor) -> list[tuple[Piece, torch.Tensor]]:
        at, found = 0, []
        for piece in self.pieces:
            shape = self.matrices, (piece.stop - piece.start) * self.group, piece.stop - piece.first
            size = shape[0] * shape[1] * shape[2]
            found.append((piece, shares[at : at + size].view(shape)))
            at += size
        return found

    def _sizes(self, piece: Piece, scores: torch.Tensor) -> tuple[float, ...]:
        return (*scores.shape, self.group, piece.start - piece.first, self.head_dim**-0.5)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, keep: bool) -> torch.Tensor:
        """Write what the queries find into `out`, as `q`; return the shares, of no elements unless `keep`."""
        shares = new_shares(q, k) if keep else q.new_empty(0)
        kept = [share for _, share in self._each(shares)] if keep else [None] * len(self.pieces)
        for piece, share in zip(self.pieces, kept, strict=True):
            seen = slice(piece.first, piece.stop)
            scores = torch.bmm(self._own(q, piece), k[:, seen].mT, out=share)
            passes.run("causal_softmax", scores, scores, piece.lows, *self._sizes(piece, scores))
            torch.bmm(scores, v[:, seen], out=self._own(out, piece))
        return shares

    def backward(
        self, grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shares: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of q, k and v."""
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for piece, share in self._each(shares):
            seen = slice(piece.first, piece.stop)
            of_out = self._own(grad, piece)
            d_v[:, seen] += torch.bmm(share.mT, of_out)
            change = torch.bmm(of_out, v[:, seen].mT)
            passes.run("causal_softmax_gradient", change, change, share, piece.lows, *self._sizes(piece, change))
            torch.bmm(change, k[:, seen], out=self._own(d_q, piece))
            d_k[:, seen] += torch.bmm(change.mT, self._own(q, piece))
        return d_q, d_k, d_v


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
    """What the queries of matrices q find, `[B, T, heads, head_dim]` as `heads` says, and what `like_saved` is like."""
    blocks, found = Blocks(q, k, heads[1], window, cu_seqlens), torch.empty_like(q)
    shares = blocks.forward(q, k, v, found, gradient and cu_seqlens is None)
    out = torch.empty(heads, dtype=q.dtype)
    from_matrices(found, out, kv_heads)
    if not gradient:
        q, k, v = (t.new_empty(0) for t in (q, k, v))
    return out, q, k, v, shares


def like_saved(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor | None, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """For the backward of heads q, k and v, not filled: these as matrices, and the shares of the softmax.

    They are of no elements without `gradient`. The shares are of none with documents, either: their number would depend
    on them.
    """
    new_q, new_k, new_v = (matrices(t, k.shape[2]) if gradient else t.new_empty(0) for t in (q, k, v))
    return new_q, new_k, new_v, new_shares(new_q, new_k) if gradient and cu_seqlens is None else q.new_empty(0)


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
    """Gradients of matrices q, k and v from that of what `queries` positions found; `shares` may be of no elements."""
    blocks = Blocks(q, k, queries, window, cu_seqlens)
    if not shares.numel():
        shares = blocks.forward(q, k, v, torch.empty_like(q), keep=True)
    return blocks.backward(grad, q, k, v, shares)


def new_shares(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Room for the shares of all blocks of matrices q and k, flat: as for full rows, in which only as much memory is
    touched as the blocks need."""
    return q.new_empty(k.shape[0] * q.shape[1] * k.shape[1])


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
