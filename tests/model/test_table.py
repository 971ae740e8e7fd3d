"""The table of parameters: it says what is there, and whoever reads it misses nothing or does not start."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import top_models

from golf_fast.compress import quantize
from golf_fast.compress.integers.groups import groups_of
from golf_fast.config import CompressConfig, ModelConfig, ScoreConfig, TrainConfig
from golf_fast.data import Batch
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.model import GPT, parameters, upstream
from golf_fast.model.parameters import Constant, Orthogonal, Part, Row
from golf_fast.pipeline.calibration import gram_matrices
from golf_fast.score.ttt.weights import Descent, WeightTrainer
from golf_fast.train.averages import Averages
from golf_fast.train.optimizer import Optimizer

TINY = ModelConfig(vocab_size=30, dim=16, layers=3, heads=4, kv_heads=2, bigram_buckets=11, bigram_dim=4)
CONFIGS = {
    "tiny": TINY,
    "seed": ModelConfig(),
    "top": top_models.TOP,
    "small top": top_models.SMALL_TOP,
    "one block": dataclasses.replace(TINY, layers=1),
    "untied, no bigram, no backout": dataclasses.replace(TINY, tied_embeddings=False, bigram_buckets=0, backout=False),
}
TOKENS = torch.arange(8).view(1, 8)
READERS: dict[str, Callable[[GPT], object]] = {
    "optimizer": lambda model: Optimizer(model, TrainConfig(), Ranks.single()),
    "averages": lambda model: Averages(model, TrainConfig()),
    "adaptation": lambda model: WeightTrainer(model, Descent.of(ScoreConfig()), Ranks.single()),
    "calibration": lambda model: gram_matrices(model, [Batch(TOKENS, TOKENS)], Ranks.single()),
    "export": upstream.export,
    "import": lambda model: upstream.load(model, {}),
    "weights on their way to compression": lambda model: upstream.split(dict(model.named_parameters()), TINY),
    "initial values": lambda model: model.initialize(0),
}
STRAY = Row("gate_bank", (3, 4, 16), "matrix", (Part("attn.gate", Orthogonal(), "control", "attention"),), (0, 1, 2))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_a_parameter_without_a_row_is_named_by_every_reader(read: Callable[[GPT], object]) -> None:
    model = GPT(TINY)
    model.register_parameter("gate_bank", torch.nn.Parameter(torch.ones(3, 4, 16)))
    with pytest.raises(ValueError, match="gate_bank is a parameter of the model without a row") as caught:
        read(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_a_row_without_a_parameter_is_named_by_every_reader(
    read: Callable[[GPT], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GPT(TINY)
    rows = parameters.table(TINY)
    monkeypatch.setattr(parameters, "table", lambda config: (*rows, STRAY))
    with pytest.raises(ValueError, match=r"gate_bank has a row .* the model lacks it"):
        read(model)


def test_quantization_names_a_tensor_without_a_row_and_a_row_without_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    state, rows = upstream.export(GPT(TINY)), parameters.table(TINY)
    stray = state | {"blocks.0.attn.gate": torch.ones(4, 16)}
    with pytest.raises(InputError, match=r"blocks\.0\.attn\.gate"):
        quantize(stray, CompressConfig(), groups=parameters.quantization_groups(TINY))
    monkeypatch.setattr(parameters, "table", lambda config: (*rows, STRAY))
    with pytest.raises(InputError, match=r"blocks\.0\.attn\.gate"):
        quantize(state, CompressConfig(), groups=parameters.quantization_groups(TINY))


def test_a_matrix_that_reads_nothing_known_is_no_row() -> None:
    """Calibration could not tell what goes into it."""
    with pytest.raises(AssertionError, match="gate_bank"):
        Row("gate_bank", (3, 4, 16), "matrix", (Part("attn.gate", Orthogonal(), "control"),), (0, 1, 2))


def test_calibration_names_a_matrix_whose_input_it_was_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT(TINY)
    monkeypatch.setattr(model, "embed", lambda tokens, documents: torch.ones(*tokens.shape, TINY.dim))
    with pytest.raises(ValueError, match=r"calibration: .* bigram\.proj\.weight"):
        gram_matrices(model, [Batch(TOKENS, TOKENS)], Ranks.single())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_number_is_in_one_public_tensor(config: ModelConfig) -> None:
    """Each element of each parameter is written under exactly one public name."""
    banks = {row.name: torch.zeros(row.shape) for row in parameters.table(config)}
    public = upstream.split(banks, config)
    for tensor in public.values():
        tensor += 1
    assert all(bool((bank == 1).all()) for bank in banks.values())
    assert sum(tensor.numel() for tensor in public.values()) == parameters.count(config)
    assert parameters.count(ModelConfig()) == 25_517_138
    assert parameters.count(top_models.TOP) == 35_945_671


def test_slices_belong_to_the_block_in_their_name() -> None:
    for found in parameters.slices(TINY):
        assert found.name == (found.part.name if found.layer is None else f"blocks.{found.layer}.{found.part.name}")
        assert (found.layer is None) == (found.index is None)
    order = [found.name for found in parameters.slices(dataclasses.replace(TINY, tied_embeddings=False))]
    assert order[:3] == ["tok_emb.weight", "bigram.embed.weight", "bigram.proj.weight"]
    assert order[7:17] == [
        f"blocks.0.{name}"
        for name in (
            "attn.c_q.weight", "attn.c_k.weight", "attn.c_v.weight", "attn.proj.weight", "attn.q_gain",
            "mlp.fc.weight", "mlp.proj.weight", "attn_scale", "mlp_scale", "resid_mix",
        )
    ]  # fmt: skip
    assert order[-1] == "lm_head.weight"


def test_a_bank_may_belong_to_some_of_the_blocks() -> None:
    """Two gates of each of the last two blocks: slices and public names of those, and of no other."""
    row = Row("gate", (4, 5), "vector", (Part("a", Constant(0), "control"), Part("b", Constant(1), "control")), (1, 2))
    original = parameters.table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "table", lambda config: (*original(config), row))
        found = [(s.name, s.index) for s in parameters.slices(TINY) if s.row is row]
    assert found == [("blocks.1.a", 0), ("blocks.1.b", 2), ("blocks.2.a", 1), ("blocks.2.b", 3)]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_groups_are_those_of_the_published_names(config: ModelConfig) -> None:
    groups = parameters.quantization_groups(config)
    assert list(groups) == [found.name for found in parameters.slices(config)]
    assert groups == groups_of(groups)


def test_it_needs_no_torch() -> None:
    tree = ast.parse(Path(parameters.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module and (module.startswith("torch") or module == "golf_fast.ops")]


def test_a_model_to_be_loaded_is_not_drawn() -> None:
    assert not any(bool(parameter.any()) for parameter in GPT(TINY, seed=None).parameters())
