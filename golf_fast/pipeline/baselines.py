"""What byte compressors make of the validation text of a run."""

from __future__ import annotations

from golf_fast.data import Baseline, byte_compressors
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs

MAX_BYTES = 64 << 20
"""Byte compressors are run on texts up to this size; on larger ones they take longer than the run."""


def compare(context: Context, inputs: Inputs, val_bytes: int) -> list[Baseline]:
    """What byte compressors reach on the validation text, by itself and after the training text; none on a large text.

    Args:
        val_bytes: the size of the validation text.
    """
    train_text = inputs.dataset.train_text(MAX_BYTES)
    if train_text is None or val_bytes > MAX_BYTES:
        context.log.line(f"byte compressors: left out, the text is larger than {MAX_BYTES:,} bytes")
        return []
    with context.stage("byte compressors"):
        return byte_compressors(train_text, inputs.dataset.val_text(inputs.validation.tokens))
