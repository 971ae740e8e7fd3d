"""Attention on a CPU as matrix products over blocks of queries.

The products go to the library that multiplies matrices fastest (with bf16 instructions where the CPU has them), and a
block of queries meets only the keys that some query of it sees, so that a causal row costs little more than half of a
full one. The scores of a block are written out; rows of a few thousand positions fit in the caches block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from golf_fast.ops.window_attention.reference import document_bounds

MIN_BLOCK = 64
MAX_BLOCKS = 8
"""Queries that see all before them are cut into at most this many blocks, of at least MIN_BLOCK: smaller products run
slower than they save."""


@dataclass(frozen=True)
class Piece:
    """A block of queries: positions from `start` to before `stop`, and the first key that one of them sees.

    `lows` `[stop - start]` int32 is where, from that key on, what each of them sees begins; None: there.
    """

    start: int
    stop: int
    first: int
    lows: torch.Tensor | None


def pieces(queries: int, length: int, window: int | None, cu_seqlens: torch.Tensor | None) -> list[Piece]:
    """The blocks of the last `queries` of `length` positions; `window` and `cu_seqlens` as in `window_attention`.

    A block meets the keys of a window and its own, so a long block computes many scores that are hidden; likewise for a
    document. What documents shorten is a multiple of MIN_BLOCK: a product of another shape than before takes ten times
    as long, as its code is made first. In a graph of `torch.compile`, which cannot depend on what is in a tensor,
    documents shorten no block and spare no key.
    """
    block = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    lows = None
    if window is not None:
        block = min(block, max(MIN_BLOCK, window // 2))
        lows = (torch.arange(length, dtype=torch.int32) - (window - 1)).clamp(min=0)
    by_documents = cu_seqlens is not None and length > 0 and not torch.compiler.is_compiling()
    if cu_seqlens is not None:
        firsts, lasts = document_bounds(cu_seqlens, length)
        lows = firsts if lows is None else firsts.maximum(lows)
        if by_documents:
            half = (int((lasts - firsts).max()) + 1) // 2
            block = min(block, max(1, -(-half // MIN_BLOCK)) * MIN_BLOCK)
    made = []
    for start in range(length - queries, length, block):
        stop = min(start + block, length)
        own = None if lows is None else lows[start:stop]
        first = 0 if window is None else max(0, start - window + 1)
        if by_documents and own is not None:
            first = int(own.min()) // MIN_BLOCK * MIN_BLOCK
        made.append(Piece(start, stop, first, None if own is None else own - first))
    return made


def window_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None, cu_seqlens: torch.Tensor | None
) -> torch.Tensor:
    """Shapes as in `golf_fast.ops.window_attention`, not packed. Probabilities are rounded to the dtype of `v`."""
    rows, queries, heads, head_dim = q.shape
    length, kv_heads = k.shape[1:3]
    before = length - queries
    group = heads // kv_heads
    # Positions outermost: the queries of a block, all heads of its key/value head, are consecutive rows of one matrix.
    q = q.reshape(rows, queries, kv_heads, group, head_dim).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    k = k.permute(0, 2, 3, 1).flatten(0, 1)
    v = v.transpose(1, 2).flatten(0, 1)
    outputs = []
    biases: dict[tuple[int, int], torch.Tensor] = {}
    for piece in pieces(queries, length, window, cu_seqlens):
        start, stop, first = piece.start, piece.stop, piece.first
        size = (stop - start, start - first)
        bias = biases.get(size)
        if bias is None:
            keys = torch.arange(first, stop)
            seen = keys <= torch.arange(start, stop)[:, None]
            if piece.lows is not None:
                seen &= keys - first >= piece.lows[:, None]
            bias = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, float("-inf"))
            bias = bias.repeat_interleave(group, dim=0)
            if cu_seqlens is None:
                biases[size] = bias
        own = q[:, (start - before) * group : (stop - before) * group]
        scores = torch.baddbmm(bias, own, k[:, :, first:stop], alpha=head_dim**-0.5)
        outputs.append(torch.bmm(scores.softmax(dim=-1), v[:, first:stop]))
    out = torch.cat(outputs, dim=1).view(rows, kv_heads, queries, group, head_dim)
    return out.transpose(1, 2).flatten(2, 3)
