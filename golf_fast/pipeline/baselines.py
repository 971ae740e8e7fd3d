"""Baselines: the bits per byte of general-purpose compressors on the validation text of a run."""

from __future__ import annotations

from golf_fast.data import Baseline, byte_compressors
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs

MAX_BYTES = 64 << 20
"""Greatest size in bytes of a text that is given to compressors; on a larger one they would take longer than the
run."""


def compare(context: Context, inputs: Inputs, val_bytes: int) -> list[Baseline]:
    """The bits per byte of compressors on the validation text, by itself and after the training text; an empty list if
    the text is larger than `MAX_BYTES`.

    Args:
        val_bytes: size of the validation text in bytes.
    """
    train_text = inputs.dataset.train_text(MAX_BYTES)
    if train_text is None or val_bytes > MAX_BYTES:
        context.log.line(f"byte compressors: left out, the text is larger than {MAX_BYTES:,} bytes")
        return []
    with context.stage("byte compressors"):
        return byte_compressors(train_text, inputs.dataset.val_text(inputs.validation.tokens))
