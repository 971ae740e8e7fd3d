"""Attention on a CPU as matrix products over blocks of queries.

The products go to the library that multiplies matrices fastest (with bf16 instructions where the CPU has them), and a
block of queries meets only the keys that some query of it sees, so that a causal row costs little more than half of a
full one. The scores of a block are written out; rows of a few thousand positions fit in the caches block by block.
"""

from __future__ import annotations

import torch

from golf_fast.ops.window_attention.reference import document_bounds, visible

MIN_BLOCK = 64
MAX_BLOCKS = 8
"""Queries that see all before them are cut into at most this many blocks, of at least MIN_BLOCK: smaller products run
slower than they save."""


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
    block = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    starts: list[int] | None = None
    whole = None
    if cu_seqlens is not None and torch.compiler.is_compiling():  # no graph can follow what is in a tensor
        whole = visible(length, window, cu_seqlens, q.device)
    elif cu_seqlens is not None:
        bounds = document_bounds(cu_seqlens, length)
        starts = bounds[0].tolist()
        # As for a window: documents are short, and a block meets the keys of all that it is of.
        block = min(block, max(MIN_BLOCK, (int((bounds[1] - bounds[0]).max()) + 1) // 2))
    if window is not None:  # a block meets the keys of a window and its own, so a long one meets many for nothing
        block = min(block, max(MIN_BLOCK, window // 2))
    outputs = []
    biases: dict[tuple[int, int], torch.Tensor] = {}
    for start in range(before, length, block):
        stop = min(start + block, length)
        first = 0 if window is None else max(0, start - window + 1)
        if starts is not None:
            first = max(first, starts[start])
        size = (stop - start, start - first)
        bias = biases.get(size)
        if bias is None:
            keys = torch.arange(first, stop)
            distance = torch.arange(start, stop)[:, None] - keys
            seen = distance >= 0 if window is None else (distance >= 0) & (distance < window)
            if starts is not None:
                seen &= keys >= torch.tensor(starts[start:stop])[:, None]
            elif whole is not None:
                seen = whole[start:stop, first:stop]
            bias = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, float("-inf"))
            bias = bias.repeat_interleave(group, dim=0)
            if cu_seqlens is None:
                biases[size] = bias
        own = q[:, (start - before) * group : (stop - before) * group]
        scores = torch.baddbmm(bias, own, k[:, :, first:stop], alpha=head_dim**-0.5)
        outputs.append(torch.bmm(scores.softmax(dim=-1), v[:, first:stop]))
    out = torch.cat(outputs, dim=1).view(rows, kv_heads, queries, group, head_dim)
    return out.transpose(1, 2).flatten(2, 3)
