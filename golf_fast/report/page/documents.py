"""The hardest and easiest documents on the page of a run, each token coloured by its loss."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from html import escape
from pathlib import Path

from golf_fast.errors import InputError, printable
from golf_fast.runs import FinishedRun
from golf_fast.runs.documents import Documents

_STEPS = (0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0)
"""Losses in nats at which the colour becomes another."""
_VISIBLE = {"\n": "⏎\n", "\t": "⇥\t"}


def shown(run: FinishedRun) -> str:
    """The documents whose text the run kept; nothing for a run that kept none."""
    paths = run.paths
    if not (paths.documents.exists() and paths.token_losses.exists()):
        return ""
    try:
        documents = run.documents()
        ends = {len(documents.shown) - 1: "the easiest: ", 0: "the hardest: "}
        parts = [
            _document(run, documents, int(number), pieces, ends.get(place, ""))
            for place, (number, pieces) in enumerate(documents.shown.items())
        ]
    except InputError as error:
        return f"<p>They cannot be shown: {escape(printable(error))}</p>"
    said = "Colour is the loss of each token in nats; point at a token, or move to it with Tab, for its numbers."
    return f"<p>{said}</p>{_scale()}{''.join(parts)}" if parts else ""


def _document(run: FinishedRun, documents: Documents, number: int, pieces: Sequence[str], which: str) -> str:
    start, stop = documents.span(number)
    paths, size = run.paths, documents.bytes[number]
    after = _losses(run, paths.token_losses, start, stop)
    before = _losses(run, paths.token_losses_before, start, stop) if paths.token_losses_before.exists() else []
    facts = [f"{which}document {number + 1:,}", f"{_bpb(after, size)} bits per byte"]
    if before:
        facts.append(f"{_bpb(before, size)} before adapting")
    facts.append(f"{size:,} bytes in {stop - start:,} tokens")
    tokens = "".join(
        _token(piece, after[place], before[place] if place < len(before) else None)
        for place, piece in enumerate(pieces[: len(after)])
    )
    more = f"<p>… {stop - start - len(pieces):,} tokens more</p>" if stop - start > len(pieces) else ""
    anchor = f"after-document-{number}"
    return (
        f"<details{' open' if which else ''}><summary>{escape(' · '.join(facts))}</summary>"
        f'<a class="skip" href="#{anchor}">skip the tokens</a><p class="tokens">{tokens}</p>{more}'
        f'<span id="{anchor}"></span></details>'
    )


def _losses(run: FinishedRun, path: Path, start: int, stop: int) -> list[float]:
    losses: list[float] = run.losses_between(path, start, stop).tolist()
    return losses


def _bpb(losses: Sequence[float], size: int) -> str:
    return f"{math.fsum(losses) / math.log(2) / size:.3f}" if size else "-"


def _token(piece: str, loss: float, before: float | None) -> str:
    said = (f"“{printable(piece)}”" if piece else "end of the document") + f"  {loss:.2f} nats"
    if before is not None:
        said += f", before adapting {before:.2f}"
    text = escape("".join(_VISIBLE.get(character, character) for character in printable(piece, keep="\n\t"))) or "∎"
    return f'<span tabindex="0" class="l{bisect_right(_STEPS, loss)}" data-tip="{escape(said)}">{text}</span>'


def _scale() -> str:
    edges = [0.0, *_STEPS]
    names = [f"{low:g} to {high:g}" for low, high in zip(edges, _STEPS, strict=False)] + [f"over {_STEPS[-1]:g}"]
    boxes = "".join(f'<span class="l{level}">{name}</span>' for level, name in enumerate(names))
    return f'<p class="scale">{boxes}</p>'
