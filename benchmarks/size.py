"""`python -m benchmarks size [RECIPE ...]`: what bits and clips fill the limit, without a trained model.

Weights are random and like trained ones: matrices have normal rows whose sizes are log-normal, every other tensor is
its initial value and normal noise. GPTQ has the inputs of a random process whose spectrum falls as 1/k. The fit is the
recipe's own, to its target with its code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from benchmarks import results
from golf_fast import code_size
from golf_fast.arguments import Parser
from golf_fast.checks import for_file
from golf_fast.compress import Quantizer, prune
from golf_fast.compress.artifact.container import encode
from golf_fast.compress.integers.groups import WIDTHS
from golf_fast.config import CompressConfig, ModelConfig, RunConfig
from golf_fast.console import say
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT, upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.recipes import RECIPES
from golf_fast.report import table

ROW_SPREAD = 0.3
"""Standard deviation of the logarithm of a row's size."""
NOISE = 0.1
"""Standard deviation of what is added to tensors that are no matrices."""


def main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks size", description=__doc__)
    parser.add_argument(
        "recipes", nargs="*", default=["top_1855", "top"], metavar="RECIPE", help="default: top_1855 top"
    )
    rows = []
    for name in parser.parse_args(arguments).recipes:
        if name not in RECIPES:
            raise InputError(f"RECIPE is {name}: it must be one of {', '.join(RECIPES)}")
        config = RECIPES[name]()
        code = code_size.code(config).size
        size, used = fitted(config, code)
        widths = {group: getattr(used, setting) for group, setting in WIDTHS.items()}
        clips = {group: used.clip_of(group) for group in WIDTHS}
        shown = [" ".join(f"{group} {value:g}" for group, value in each.items()) for each in (widths, clips)]
        rows.append([name, used.quantizer, *shown, f"{size:,}", f"{code:,}", f"{size + code:,}"])
        found = {"recipe": name, "bits": widths, "clips": clips, "bytes": size, "code": code}
        results.append({"op": "size", **found, **results.environment("cpu")})
    say(table(["recipe", "quantizer", "bits", "clips", "artifact", "code", "together"], rows))


def fitted(config: RunConfig, code_bytes: int) -> tuple[int, CompressConfig]:
    """Bytes of the artifact of a random model, and the settings that were found for it."""
    weights, model, groups = trained_like(config.model), for_file(config.model), quantization_groups(config.model)
    quantizer = Quantizer(prune(weights, config.compress), model, code_bytes, Ranks.single(), say, groups)
    done = quantizer.in_time(config.compress, lambda check: inputs(weights), math.inf)
    return len(encode(done.tensors, model, **done.config.coding())), done.config


def trained_like(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Float32 tensors of the shapes of a model, by public name."""
    generator = torch.Generator().manual_seed(0)
    groups = quantization_groups(config)

    def one(name: str, initial: torch.Tensor) -> torch.Tensor:
        if groups[name] not in WIDTHS or initial.ndim != 2:
            return initial.float() + NOISE * torch.randn(initial.shape, generator=generator)
        sizes = torch.exp(ROW_SPREAD * torch.randn(len(initial), 1, generator=generator)) / math.sqrt(initial.shape[1])
        return sizes * torch.randn(initial.shape, generator=generator)

    return {name: one(name, tensor.detach()) for name, tensor in upstream.export(GPT(config, seed=0)).items()}


def inputs(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Hessian for each matrix; those of one width share it."""
    made: dict[int, torch.Tensor] = {}
    for cols in sorted({tensor.shape[1] for tensor in weights.values() if tensor.ndim == 2}):
        generator = torch.Generator().manual_seed(cols)
        rotation, _ = torch.linalg.qr(torch.randn(cols, cols, generator=generator, dtype=torch.float64))
        made[cols] = (rotation / torch.arange(1, cols + 1) @ rotation.T).float()
    return {name: made[tensor.shape[1]] for name, tensor in weights.items() if tensor.ndim == 2}
