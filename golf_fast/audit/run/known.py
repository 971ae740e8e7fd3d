"""Whether the artifact knows the validation text better than the text that it is said to have learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from golf_fast.audit.run.evidence import Evidence, Missing
from golf_fast.audit.run.finding import Finding, flagged, passed, unknown
from golf_fast.audit.run.replay import Sample
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.score.rows import TokenRows

_LEAST_ROWS = 8
_ROWS_AT_ONCE = 8
_NATS = 0.1
"""A lead of the validation text below this is none: texts differ."""
_DEVIATIONS = 6.0
"""Standard errors of the lead."""


def known(evidence: Evidence, model: GPT, sample: Sample) -> list[Finding]:
    """V1: mean losses of the artifact, without adapting, on rows of the training and of the validation text.

    Who trained elsewhere on the validation text has an artifact with this lead, whatever the files say. In the
    challenge's data both texts are drawn alike, so that it is a fault; in others it may be that one is easier.
    """
    dataset, tokens = evidence.dataset, evidence.tokens
    if isinstance(dataset, Missing) or isinstance(tokens, Missing):
        return []
    window = evidence.config.score.window
    try:
        stream = dataset.train_stream()
        counts = [(length - 1) // window for length in (stream.tokens, len(tokens))]
        if min(counts) < _LEAST_ROWS:
            return []
        draw = np.random.default_rng(sample.seed)
        rows = max(_LEAST_ROWS, sample.targets // window)
        starts = [window * draw.choice(count, min(count, rows), replace=False) for count in counts]
        train = [stream.read(int(start), window + 1) for start in starts[0]]
    except InputError:
        return []  # shards that cannot be read are told of elsewhere
    held_out = [tokens[start : start + window + 1] for start in starts[1]]
    lead, error = _lead(_means(model, train), _means(model, held_out))
    text = f"{len(held_out)} rows of the validation text have a mean loss {abs(lead):.3f} nats "
    text += f"{'below' if lead > 0 else 'above'} that of {len(train)} rows of the training text"
    if not (lead > _NATS and lead > _DEVIATIONS * error):
        return [passed("V1", text)]
    text += f" ({lead / max(error, 1e-9):.0f} standard errors): the artifact knows it, or it is the easier text"
    return [(flagged if evidence.variant else unknown)("V1", text, evidence.paths.artifact.name)]


def _means(model: GPT, rows: Sequence[npt.NDArray[np.uint16]]) -> npt.NDArray[np.float64]:
    """The mean loss of each row of `[window + 1]` tokens."""
    device, found = model.get_parameter("tok_emb").device, []
    length = len(rows[0]) - 1
    stream = TokenRows(np.concatenate(rows), device)
    starts = torch.arange(len(rows), device=device) * (length + 1)
    with torch.inference_mode():
        for part in torch.split(starts, _ROWS_AT_ONCE):
            losses = model.token_losses(*stream.gather(part, length))
            found.append(losses.view(len(part), -1).double().mean(1).cpu().numpy())
    return np.concatenate(found)


def _lead(train: npt.NDArray[np.float64], held_out: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The mean loss of the training rows minus that of the held-out rows, and its standard error, in nats."""
    variances = [float(means.var(ddof=1)) / len(means) for means in (train, held_out)]
    return float(train.mean() - held_out.mean()), math.sqrt(sum(variances))
