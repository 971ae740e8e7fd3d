"""The data loader: shards to batches in the challenge's order (by name, repeated, not shuffled, across shards)."""

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from golf_fast.data.batch import Batch, document_bounds
from golf_fast.data.shards import Shard, Tokens
from golf_fast.errors import InputError


class TokenStream:
    """The endless stream of the tokens of shards, which starts over after the last shard.

    Attributes:
        tokens: number of tokens before the stream repeats.
        position: number of tokens passed since the beginning; it grows beyond `tokens`.

    Args:
        paths: the shards in order.
        vocab_size: vocabulary size; larger ids are errors.

    Raises:
        InputError: a shard is missing, truncated or of another format.
    """

    def __init__(self, paths: Sequence[Path], vocab_size: int) -> None:
        assert paths, "a stream needs a shard"
        self._shards = [Shard(path) for path in paths]
        self._ends = list(accumulate(shard.tokens for shard in self._shards))
        self._vocab_size = vocab_size
        self.tokens = self._ends[-1]
        self.position = 0

    def seek(self, position: int) -> None:
        """Move to a position, counted from the beginning, 0 or more."""
        assert position >= 0, position
        self.position = position

    def take(self, count: int) -> Tokens:
        """The next `count` tokens, uint16 [count], read-only if they are in one shard.

        Raises:
            InputError: an id is beyond the vocabulary, or a file has become shorter; the position does not change.
        """
        tokens = self.read(self.position, count)
        self.position += count
        return tokens

    def read(self, position: int, count: int) -> Tokens:
        """`count` tokens from `position`, as `take`, without moving the stream."""
        pieces = []
        while count > 0:
            offset = position % self.tokens
            index = bisect_right(self._ends, offset)
            start = offset - (self._ends[index - 1] if index else 0)
            piece = self._shards[index].read(start, count)
            self._check(piece, index, start)
            pieces.append(piece)
            position += len(piece)
            count -= len(piece)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint16)

    def _check(self, piece: Tokens, index: int, start: int) -> None:
        if int(piece.max()) < self._vocab_size:
            return
        bad = int(np.argmax(piece >= self._vocab_size))
        raise InputError(
            f"{self._shards[index].path}: token {start + bad} has id {piece[bad]}, beyond the vocabulary of "
            f"{self._vocab_size}; use the model.vocab_size and tokenizer that the shards were made for"
        )


class Batches:
    """The batches of one rank (seed.md section 4).

    Each micro-step takes `world_size * (N + 1)` consecutive tokens, N = batch_tokens / micro_batches; rank r gets
    the r-th piece. So 1, 2, 4 or 8 ranks together see the same pieces in a step.

    Args:
        stream: the tokens; its position is not changed.
        rank: this rank.
        world_size: number of ranks.
        batch_tokens: tokens of a step, over all ranks and micro-batches.
        micro_batches: number of pieces of a step; the world size must divide it.
        seq_len: length of a row in tokens; it must divide N.
        separate: whether a batch is one row of N tokens, with `documents` cut at each BOS and every `seq_len` from
            there.
        pin: whether the next batch is prepared by a thread, in pinned memory if there is CUDA.

    Raises:
        InputError: one of these numbers does not divide the other.
    """

    def __init__(
        self,
        stream: TokenStream,
        rank: int,
        world_size: int,
        batch_tokens: int,
        micro_batches: int,
        seq_len: int,
        pin: bool = False,
        separate: bool = False,
    ) -> None:
        if micro_batches % world_size:
            raise InputError(f"world size {world_size}: it must divide train.micro_batches = {micro_batches}")
        if batch_tokens % (micro_batches * seq_len):
            raise InputError(
                f"train.batch_tokens is {batch_tokens}: it must be a multiple of micro_batches * seq_len = "
                f"{micro_batches} * {seq_len} = {micro_batches * seq_len}"
            )
        assert 0 <= rank < world_size, (rank, world_size)
        self.accumulation = micro_batches // world_size
        """Micro-steps of this rank in a step."""
        self._stream = stream
        self._rank = rank
        self._world_size = world_size
        self._piece = batch_tokens // micro_batches + 1
        self.seq_len = seq_len
        """Length of a row, for the batches to come; it must divide N."""
        self._separate = separate
        self._position = 0
        self._pinned = pin and torch.cuda.is_available()
        self._thread = ThreadPoolExecutor(1, "batches") if pin else None
        self._ahead: tuple[tuple[int, int], Future[Batch]] | None = None

    def next(self) -> Batch:
        """The batch of the next micro-step on the CPU, with rows [N / seq_len, seq_len] or, with documents, [1, N].

        Raises:
            InputError: an id is beyond the vocabulary; the position does not change.
        """
        wanted = self._position, self.seq_len
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead and ahead[0] == wanted else self._prepare(*wanted)
        self._position += self._world_size * self._piece
        if self._thread is not None:
            coming = self._position, self.seq_len
            self._ahead = (coming, self._thread.submit(self._prepare, *coming))
        return batch

    def _prepare(self, position: int, seq_len: int) -> Batch:
        tokens = self._stream.read(position + self._rank * self._piece, self._piece)
        span = torch.from_numpy(tokens.astype(np.int64))
        length = self._piece - 1 if self._separate else seq_len
        bounds = torch.from_numpy(document_bounds(tokens[:-1], seq_len)) if self._separate else None
        batch = Batch(span[:-1].view(-1, length), span[1:].view(-1, length), bounds)
        return batch.pin_memory() if self._pinned else batch

    def state(self) -> dict[str, int]:
        """The position of the ranks, for `restore`; the same on every rank."""
        return {"position": self._position}

    def restore(self, state: dict[str, int]) -> None:
        """Restore a `state`."""
        self._position = state["position"]
