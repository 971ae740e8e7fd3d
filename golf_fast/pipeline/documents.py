"""What scoring leaves behind of tokens and documents, so that a run can be looked at and compared by document."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from golf_fast.data import BOS_ID, Tokenizer, Validation
from golf_fast.files import replacing
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs
from golf_fast.runs.documents import Documents
from golf_fast.score import Score

_STRETCHES = 256
"""Stretches of the stream for which the gain of adapting is kept."""
_AT_EACH_END = 3
"""Documents whose text is kept, of the hardest, and of the easiest."""
_SHOWN_TOKENS = 256
"""Tokens of each that are kept."""
_LEAST_TOKENS = 64
"""A document with fewer says little."""


def leave_documents(context: Context, inputs: Inputs, fixed: Score, final: Score) -> None:
    """Leave the documents and, where the run adapts, the losses before adapting and what it gained along the stream."""
    paths = context.paths
    if final is not fixed:
        for stretch in gains(fixed.losses, final.losses):
            context.log.metric(kind="gain", **stretch)
        with context.secondary(), replacing(paths.token_losses_before) as file:
            file.write(fixed.losses.tobytes())
    with context.secondary():
        find_documents(inputs.validation, final.losses, inputs.dataset.tokenizer()).write(paths.documents)


def gains(fixed: npt.NDArray[np.float32], adapting: npt.NDArray[np.float32]) -> list[dict[str, float]]:
    """The mean losses of equal stretches of the stream, in nats, without and with adapting; both `[targets]`."""
    edges = np.unique(np.linspace(0, len(fixed), min(_STRETCHES, len(fixed)) + 1).astype(np.int64)).tolist()
    return [
        {
            "start": start,
            "stop": stop,
            "fixed": float(fixed[start:stop].mean(dtype=np.float64)),
            "adapting": float(adapting[start:stop].mean(dtype=np.float64)),
        }
        for start, stop in pairwise(edges)
    ]


def find_documents(validation: Validation, losses: npt.NDArray[np.float32], tokenizer: Tokenizer) -> Documents:
    """Where the documents begin, their bytes, their hashes, and the text of the hardest and easiest by bits per byte.

    Args:
        losses: nats of each target, `[targets]`.
    """
    tokens, count = validation.tokens, validation.targets
    begins = np.flatnonzero(tokens[:count] == BOS_ID)
    starts = np.union1d([0], begins).astype(np.int64)
    sizes = np.add.reduceat(validation.byte_counts, starts, dtype=np.int64)
    nats = np.add.reduceat(losses, starts, dtype=np.float64)
    lengths = np.diff(starts, append=count)
    chosen = _ends(nats, sizes, lengths)
    shown = {
        str(document): tokenizer.pieces(tokens[starts[document] + 1 :][: min(_SHOWN_TOKENS, lengths[document])])
        for document in chosen
    }
    digest = hashlib.sha256(np.ascontiguousarray(tokens, dtype="<u2").data).hexdigest()
    texts = tuple(
        _hash(tokens[start : start + length + 1], tokenizer) for start, length in zip(starts, lengths, strict=True)
    )
    return Documents(digest, count, starts.tolist(), sizes.tolist(), shown, texts)


def _hash(tokens: npt.NDArray[np.uint16], tokenizer: Tokenizer) -> str:
    """The hash that `Documents` has of the text of a document: of all tokens but the first, its BOS or what is cut."""
    before = len(tokenizer.decode_bytes(tokens[:1]))
    return hashlib.sha256(tokenizer.decode_bytes(tokens)[before:]).hexdigest()[:16]


def _ends(nats: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[int]:
    """The documents with the most bits per byte, the most first, then those with the fewest, the fewest last."""
    long = np.flatnonzero((lengths >= _LEAST_TOKENS) & (sizes > 0))
    ordered: list[int] = long[np.argsort(-nats[long] / sizes[long], kind="stable")].tolist()
    return ordered[:_AT_EACH_END] + ordered[max(_AT_EACH_END, len(ordered) - _AT_EACH_END) :]
