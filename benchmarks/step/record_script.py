"""The model of a published record script, built from the user's own copy of it.

The file is executed, as any script that its owner runs: under another name than `__main__`, so that what it does when
it is started (training) stays undone, and with the rights of this process.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from golf_fast.config import ModelConfig
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.model import upstream as names

MODULE_NAME = "record_script"
WHOLE_CONFIGURATION = ("args", "h", "hparams", "hyperparameters", "config", "cfg")
"""What scripts call the one argument that holds all."""


@dataclass(frozen=True)
class Built:
    """A script's model; in `notes`, a line for each thing that is not as in ours."""

    model: torch.nn.Module
    notes: list[str]
    same_weights: bool


def known_arguments(config: ModelConfig) -> dict[str, Any]:
    """What the recipe says, under the names that the scripts' constructors use."""
    mult = config.mlp_mult
    return {
        "vocab_size": config.vocab_size,
        "num_layers": config.layers,
        "model_dim": config.dim,
        "num_heads": config.heads,
        "num_kv_heads": config.kv_heads,
        "mlp_mult": int(mult) if mult == int(mult) else mult,  # some multiply a width by it without rounding
        "tie_embeddings": config.tied_embeddings,
        "tied_embed_init_std": config.embedding_init_std,
        "logit_softcap": config.logit_softcap,
        "rope_base": config.rope_base,
        "qk_gain_init": config.qk_gain_init,
        "bigram_vocab_size": config.bigram_buckets,
        "bigram_dim": config.bigram_dim,
        "backout_enabled": config.backout,
        "backout_lambda_init": config.backout_lambda_init,
        "backout_layer": config.backout_layer,
    }


def load(path: Path) -> ModuleType:
    """Execute the file as a module.

    Raises:
        InputError: it cannot be read, fails, or has no class `GPT`.
    """
    if not path.is_file():
        raise InputError(f"--upstream {path}: there is no such file; name a record script's train_gpt.py")
    loader = importlib.machinery.SourceFileLoader(MODULE_NAME, str(path))
    spec = importlib.util.spec_from_loader(MODULE_NAME, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(MODULE_NAME)
    sys.modules[MODULE_NAME] = module  # dataclasses and torch.compile look a class's module up there
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[MODULE_NAME]
        else:
            sys.modules[MODULE_NAME] = before
        first_line = (str(error).splitlines() or [""])[0]
        raise InputError(f"--upstream {path}: {type(error).__name__} while it was loaded: {first_line}") from error
    if not inspect.isclass(getattr(module, "GPT", None)):
        raise InputError(f"--upstream {path}: it has no class GPT, which the published scripts have")
    return module


def arguments(module: ModuleType, config: ModelConfig, path: Path) -> tuple[dict[str, Any], list[str]]:
    """What `GPT` is called with, and a line for each argument that the recipe says nothing about.

    The recipe's values come first, then the script's own (`Hyperparameters`), then the constructor's defaults.

    Raises:
        InputError: an argument has none of them.
    """
    known = known_arguments(config)
    own = _hyperparameters(module)
    chosen: dict[str, Any] = {}
    lines = []
    for name, parameter in inspect.signature(module.GPT).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in known:
            chosen[name] = known[name]
        elif own is not None and name in WHOLE_CONFIGURATION:
            for field, value in known.items():
                setattr(own, field, value)
            chosen[name] = own
        elif hasattr(own, name):
            chosen[name] = getattr(own, name)
            lines.append(f"GPT({name}): unknown here; the script's own value, {chosen[name]!r}")
        elif parameter.default is not parameter.empty:
            lines.append(f"GPT({name}): unknown here; the constructor's default, {parameter.default!r}")
        else:
            raise InputError(
                f"--upstream {path}: GPT needs {name}, which is neither known here nor in the script's Hyperparameters"
            )
    return chosen, lines


def _hyperparameters(module: ModuleType) -> Any:
    """An instance of the script's settings, or None where it has none that can be made."""
    try:
        return module.Hyperparameters()
    except (AttributeError, TypeError):
        return None


def build(module: ModuleType, ours: GPT, device: torch.device, dtype: torch.dtype, path: Path) -> Built:
    """The script's model on `device` with the weights of `ours`, in the mixture of dtypes that the script trains in.

    Raises:
        InputError: the constructor or the move to the device fails.
    """
    chosen, lines = arguments(module, ours.config, path)
    try:
        model: torch.nn.Module = module.GPT(**chosen).to(device)
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise InputError(f"--upstream {path}: GPT(...) fails: {type(error).__name__}: {first_line}") from error
    if dtype == torch.bfloat16:
        model.bfloat16()
        linear = getattr(module, "CastedLinear", None)
        for part in model.modules():
            if linear is not None and isinstance(part, linear):
                part.float()
        restore: Callable[[torch.nn.Module], object] | None = getattr(module, "restore_low_dim_params_to_fp32", None)
        if restore is not None:
            restore(model)
    differing = _copy_weights(ours, model)
    if differing:
        lines.append(f"{len(differing)} parameters are in one of the two models alone, such as {differing[0]}")
    return Built(model, lines, same_weights=not differing)


@torch.no_grad()
def _copy_weights(ours: GPT, model: torch.nn.Module) -> list[str]:
    """Give the script's model the weights of ours where names and shapes agree; fill its other zeros.

    Returns the names of the parameters that only one of the two has.

    A matrix of zeros would make the products after it products of zeros, which run faster.
    """
    weights = names.export(ours)
    generator = torch.Generator().manual_seed(0)
    missing = []
    for name, parameter in model.named_parameters():
        found = weights.pop(name, None)
        if found is not None and found.shape == parameter.shape:
            parameter.copy_(found)
            continue
        missing.append(name)
        if parameter.ndim >= 2 and not parameter.any():
            drawn = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
            parameter.copy_(drawn)
    return [*missing, *weights]
