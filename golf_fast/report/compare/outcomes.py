"""What each of several runs reached, whatever version left its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from golf_fast.report.html import number, texts
from golf_fast.rules import in_words


@dataclass(frozen=True)
class Reached:
    """What a run reached; None for what its result does not say.

    Attributes:
        run: name of the run.
        recipe: name of its recipe; "" where neither the settings nor the result name it.
        seed: seed of its random numbers.
        steps: number of training steps.
        bpb: score in bits per byte.
        total_bytes: size of the artifact and its code, in bytes.
        fits: whether that is within the limit of the challenge.
        verdict: whether the run is legal, in words; that it did not finish; or that its result does not say.
    """

    run: str
    recipe: str
    seed: int | None
    steps: int | None
    bpb: float | None
    total_bytes: int | None
    fits: bool | None
    verdict: str

    @property
    def cells(self) -> list[str]:
        """The cells of a table row under `HEADERS`."""
        size = number(self.total_bytes, ",d")
        return [
            self.run,
            number(self.bpb, ".5f") or "-",
            self.verdict,
            f"{size}, too many" if size and self.fits is False else size or "-",
            number(self.steps, ",d") or "-",
            number(self.seed, "d") or "-",
            self.recipe or "-",
        ]


HEADERS = ("run", "bits per byte", "verdict", "bytes", "steps", "seed", "recipe")


def reached(name: str, result: Mapping[str, Any], settings: Mapping[str, Any]) -> Reached:
    """Read from a result and the settings what a run reached.

    Args:
        name: name of the run.
        result: content of its result.json; empty where there is none.
        settings: dotted name -> value.
    """
    return Reached(
        name,
        str(result.get("recipe") or settings.get("recipe") or ""),
        _whole(result.get("seed", settings.get("seed"))),
        _whole(result.get("steps")),
        result.get("val_bpb") if isinstance(result.get("val_bpb"), float) else None,
        _whole(result.get("total_bytes")),
        result.get("fits") if isinstance(result.get("fits"), bool) else None,
        _verdict(result),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _verdict(result: Mapping[str, Any]) -> str:
    if not result:
        return "no result"
    if not isinstance(result.get("violations"), list):
        return "not known"
    said = in_words(texts(result.get("violations")), texts(result.get("not_judged")))
    if result.get("finished") is False:
        return f"not finished, {said}" if result.get("violations") else "not finished"
    return said
