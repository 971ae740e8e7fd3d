"""Writes what scoring found for each document and token, so that runs can be inspected and compared by document."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from golf_fast.data import Tokenizer, Validation
from golf_fast.data.text_hashes import text_hashes
from golf_fast.files import replacing
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs
from golf_fast.runs.documents import Documents
from golf_fast.score import Score

_STRETCHES = 256
"""Number of stretches of the stream for which the gain of adapting is stored."""
_AT_EACH_END = 3
"""Number of hardest documents, and of easiest ones, whose text is stored."""
_SHOWN_TOKENS = 256
"""Number of tokens that are stored of such a document."""
_LEAST_TOKENS = 64
"""Least number of tokens of such a document; shorter ones say little."""


def leave_documents(context: Context, inputs: Inputs, fixed: Score, final: Score) -> None:
    """Write the documents and, if the run adapts, the losses without adapting and the gain along the stream."""
    paths = context.paths
    if final is not fixed:
        for stretch in gains(fixed.losses, final.losses):
            context.log.metric(kind="gain", **stretch)
        with context.secondary(), replacing(paths.token_losses_before) as file:
            file.write(fixed.losses.tobytes())
    with context.secondary():
        find_documents(inputs.validation, final.losses, inputs.dataset.tokenizer()).write(paths.documents)


def gains(fixed: npt.NDArray[np.float32], adapting: npt.NDArray[np.float32]) -> list[dict[str, float]]:
    """Mean losses in nats of equal stretches of the stream, without and with adapting.

    Args:
        fixed: loss of each target without adapting, `[targets]`.
        adapting: loss of each target with adapting, `[targets]`.
    """
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
    """The start, bytes and hash of each document, and the text of the hardest and the easiest by bits per byte.

    Args:
        losses: loss of each target in nats, `[targets]`.
    """
    tokens, count = validation.tokens, validation.targets
    starts, sizes = validation.documents()
    nats = np.add.reduceat(losses, starts, dtype=np.float64)
    lengths = np.diff(starts, append=count)
    chosen = _ends(nats, sizes, lengths)
    shown = {
        str(document): tokenizer.pieces(tokens[starts[document] + 1 :][: min(_SHOWN_TOKENS, lengths[document])])
        for document in chosen
    }
    texts = text_hashes(tokens, starts.tolist(), tokenizer)
    return Documents(validation.sha256, count, starts.tolist(), sizes.tolist(), shown, texts)


def _ends(nats: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[int]:
    """The documents with the most bits per byte, in falling order, then those with the fewest, in falling order."""
    long = np.flatnonzero((lengths >= _LEAST_TOKENS) & (sizes > 0))
    ordered: list[int] = long[np.argsort(-nats[long] / sizes[long], kind="stable")].tolist()
    return ordered[:_AT_EACH_END] + ordered[max(_AT_EACH_END, len(ordered) - _AT_EACH_END) :]
