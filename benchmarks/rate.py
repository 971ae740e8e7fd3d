"""`python -m benchmarks rate [WEIGHTS]`: bits a weight against squared error, uniform and on a trellis, and the bound.

Lines are Gaussian draws at ideal entropies: of the integers, and under a trellis of the integers whose parity is known.
Points are whole artifacts of a trained model's matrices outside its embeddings, quantized by setting, everything in the
file counted. Both are bits a weight above 1/2 log2(variance / squared error), rows divided by their root mean square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.codec import weights_path
from benchmarks.report.plot import write_svg
from golf_fast.arguments import Parser, a_path
from golf_fast.compress import dequantize, quantize, trellis_quantize
from golf_fast.compress.artifact.container import encode
from golf_fast.compress.integers import trellis_numpy
from golf_fast.config import CompressConfig
from golf_fast.report import table

STEPS = (1.0, 0.7, 0.5, 0.42, 0.35, 0.28, 0.2, 0.14)
"""Of the uniform grid, in root mean squares; half of them are the trellis'."""
DRAWS = (2000, 150)
LINES = {"uniform": 0, "trellis of 4 states": 4, "trellis of 8 states": 8}
FILES = {"uniform": "sigma", "trellis of 8 states": "trellis"}
COLORS = {"uniform": "#c2710c", "trellis of 4 states": "#5f9a6e", "trellis of 8 states": "#2563a8"}


def entropy(values: np.ndarray) -> float:
    """Bits that the values take together at their own frequencies."""
    _, counts = np.unique(values, return_counts=True)
    return float((counts * np.log2(values.size / counts)).sum())


def parities(values: np.ndarray, states: int) -> np.ndarray:
    """The parity that the state of each column has before each value."""
    following, state = trellis_numpy.next_states(states), np.zeros(values.shape[1], np.int64)
    known = np.empty(values.shape, np.int64)
    for row, integers in enumerate(values):
        known[row] = state & 1
        state = following[state, integers >> 1 & 1]
    return known


def ideal(weights: np.ndarray, step: float, states: int) -> tuple[float, float]:
    """Bits a weight and squared error of Gaussian weights; 0 states: of a uniform grid."""
    if states == 0:
        values = np.rint(weights / step).astype(np.int64)
        return entropy(values) / values.size, float(np.square(weights - values * step).mean())
    half = np.full(len(weights), step / 2, np.float32)
    values = trellis_quantize(weights, half, states)
    known = parities(values, states)
    bits = sum(entropy(values[known == parity]) for parity in (0, 1)) / values.size
    return bits, float(np.square(weights - values * half[:, None]).mean())


def of_file(weights: Mapping[str, torch.Tensor], step: float, quantizer: Any) -> tuple[float, float]:
    """Bits a weight of an artifact, and the squared error as a share of its row's squares, over all weights."""
    # int8: nothing is clipped at any of the steps.
    widths = dict.fromkeys(("mlp_bits", "attention_bits", "bigram_bits", "embedding_bits"), 8)
    plain = {"fp16_keep": (), "fp16_max_elements": 0, "prune_quantile": 0.0}
    config = CompressConfig(quantizer=quantizer, clip_sigma=step * 127, **widths, **plain)  # type: ignore[arg-type]
    stored = quantize(weights, config)
    count = sum(each.numel() for each in weights.values())
    error = 0.0
    for name, restored in dequantize(stored).items():
        squares = weights[name].double().square().mean(dim=1, keepdim=True).clamp_min(1e-30)
        error += float(((weights[name] - restored).double().square() / squares).sum())
    return 8 * len(encode(stored, {}, **config.coding())) / count, error / count


def measure(path: Path) -> Iterator[dict[str, Any]]:
    """A row for each line or file at each step."""
    draws = np.random.default_rng(0).normal(size=DRAWS).astype(np.float32)
    for name, states in LINES.items():
        for step in STEPS:
            bits, error = ideal(draws, step, states)
            error /= float(np.square(draws).mean())
            yield {"way": name, "of": "Gaussian", "step": step, "bits": bits, "above": bits + np.log2(error) / 2}
    loaded = safetensors.torch.load_file(path).items()
    weights = {name: each.float() for name, each in loaded if each.ndim == 2 and "embed" not in name.lower()}
    for name, quantizer in FILES.items():
        for step in STEPS:
            bits, error = of_file(weights, step, quantizer)
            yield {"way": name, "of": path.name, "step": step, "bits": bits, "above": bits + np.log2(error) / 2}


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Bits above the bound, over bits a weight."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    panel = figure.subplots()
    for name, color in COLORS.items():
        for source, style in (("Gaussian", "-"), ("file", "o--")):
            own = sorted(
                (r["bits"], r["above"]) for r in rows if r["way"] == name and (r["of"] == "Gaussian") == (style == "-")
            )
            if own:
                label = name if source == "Gaussian" else f"{name}, files of real weights"
                panel.plot(*zip(*own, strict=True), style, color=color, label=label, markersize=3.5, linewidth=1.2)
    panel.axhline(0, color="black", linewidth=1)
    panel.annotate("rate-distortion bound of a Gaussian", (1.6, 0.006), fontsize=8)
    panel.set_xlabel("bits a weight")
    panel.set_ylabel("bits above ½ log₂(variance / error)")
    panel.legend(frameon=False, fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks rate", description=__doc__)
    parser.add_argument("weights", type=a_path, nargs="?", help="a .safetensors file; default: as `benchmarks codec`")
    parser.add_argument("--plot", type=a_path, help="draw it as this SVG file")
    options = parser.parse_args(arguments)
    path = weights_path(options.weights)
    rows = list(measure(path))
    around = results.environment("cpu")
    for row in rows:
        results.append({"op": "rate", **row, **around})
    print(
        table(
            ["", "of", "step", "bits", "above"],
            [[row[key] for key in ("way", "of", "step", "bits", "above")] for row in rows],
        )
    )
    if options.plot:
        write_svg(options.plot, lambda: draw(rows))
