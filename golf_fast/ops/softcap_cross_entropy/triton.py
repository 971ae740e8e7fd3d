"""Soft cap, cross-entropy and their gradient in one pass over the logits, between three cuBLAS products.

Forward: `logits = x @ weight.T`; one Triton program for each row reads its logits once and writes the loss and, where
gradients are wanted, the derivative of the loss by the logits in their place. Backward: `dx = g * (d @ weight)` and
`dweight = d.T @ (g * x)`, because the gradient g of a row's loss commutes with the products. Saved: x, weight and d
`[rows, V]` in the dtype of x. Sums, exponentials and losses are float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch


@dataclass(frozen=True)
class Row:
    """Launch configuration: columns that a program holds at a time, whether that is the whole row, and warps."""

    columns: int
    whole: bool
    warps: int


ROWS = (Row(1024, True, 4), Row(4096, True, 8), Row(8192, True, 16), Row(4096, False, 8))


def choose_row(vocabulary: int) -> Row:
    """The narrowest program that holds the row in registers; rows above 8192 are read again, from L2."""
    return next((row for row in ROWS if row.whole and vocabulary <= row.columns), ROWS[-1])


@triton.jit
def _tanh(x):
    """2e-7 absolute, from one exponential; right at both infinities."""
    return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))


@triton.jit
def softcap_cross_entropy_kernel(
    logits, targets, losses, vocabulary, softcap,
    GRADIENT: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """losses `[rows]` of logits `[rows, vocabulary]`, which become d loss / d logits if GRADIENT.

    A target outside the vocabulary has the loss NaN.
    """
    row = tl.program_id(0).to(tl.int64)
    here = logits + row * vocabulary
    target = tl.load(targets + row)
    columns = tl.arange(0, COLUMNS)
    if WHOLE:
        inside = columns < vocabulary
        t = _tanh(tl.load(here + columns, mask=inside, other=0.0).to(tl.float32) / softcap)
        capped = tl.where(inside, softcap * t, float("-inf"))
        peak = tl.max(capped, axis=0)
        weights = tl.exp(capped - peak)
        total = tl.sum(weights, axis=0)
        at_target = tl.sum(tl.where(columns == target, capped, 0.0), axis=0)
        if GRADIENT:
            change = (weights / total - tl.where(columns == target, 1.0, 0.0)) * (1.0 - t * t)
            tl.store(here + columns, change.to(logits.dtype.element_ty), mask=inside)
    else:
        peak = float("-inf")
        total = 0.0
        at_target = 0.0
        for start in range(0, vocabulary, COLUMNS):
            inside = start + columns < vocabulary
            t = _tanh(tl.load(here + start + columns, mask=inside, other=0.0).to(tl.float32) / softcap)
            capped = tl.where(inside, softcap * t, float("-inf"))
            higher = tl.maximum(peak, tl.max(capped, axis=0))
            total = total * tl.exp(peak - higher) + tl.sum(tl.exp(capped - higher), axis=0)
            peak = higher
            at_target += tl.sum(tl.where(start + columns == target, capped, 0.0), axis=0)
        if GRADIENT:
            for start in range(0, vocabulary, COLUMNS):
                inside = start + columns < vocabulary
                t = _tanh(tl.load(here + start + columns, mask=inside, other=0.0).to(tl.float32) / softcap)
                weights = tl.exp(softcap * t - peak)
                change = (weights / total - tl.where(start + columns == target, 1.0, 0.0)) * (1.0 - t * t)
                tl.store(here + start + columns, change.to(logits.dtype.element_ty), mask=inside)
    loss = peak + tl.log(total) - at_target
    valid = (target >= 0) & (target < vocabulary)
    tl.store(losses + row, tl.where(valid, loss, float("nan")))


def row_launch(
    logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor, softcap: float, gradient: bool, row: Row
) -> Launch:
    """The launch that fills losses (and overwrites logits); shapes as in `softcap_cross_entropy_kernel`."""
    rows, vocabulary = logits.shape
    arguments = {
        "logits": logits, "targets": targets, "losses": losses, "vocabulary": vocabulary, "softcap": softcap,
        "GRADIENT": gradient, "COLUMNS": row.columns, "WHOLE": row.whole,
    }  # fmt: skip
    return Launch("softcap_cross_entropy", softcap_cross_entropy_kernel, (rows,), arguments, row.warps, 2)
