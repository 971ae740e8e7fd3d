"""Adapters: nothing when they are new, a change of the matrices when they are not, each row its own."""

from __future__ import annotations

import pytest
import torch

from golf_fast.config import ModelConfig
from golf_fast.model import GPT
from golf_fast.model.adapters import Adapters, Fresh, LowRank, Place, widths

CONFIG = ModelConfig(
    vocab_size=40,
    dim=16,
    layers=3,
    heads=4,
    kv_heads=2,
    mlp_mult=2,
    bigram_buckets=31,
    bigram_dim=8,
    tied_embeddings=False,
)
ALL = ("q", "k", "v", "o", "mlp", "head")
TOKENS = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(3))
TARGETS = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(4))


def model() -> GPT:
    made = GPT(CONFIG, compute_dtype=torch.float64).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made


def adapters(names: tuple[str, ...] = ALL, rows: int = 2) -> Adapters:
    """With second factors that are not zero, other ones for each row."""
    generator = torch.Generator().manual_seed(8)
    made = Fresh.drawn(widths(CONFIG, model().plan, names), 2, 0.5, torch.device("cpu"), torch.float64).rows(rows)
    pairs = {
        place: LowRank(pair.a, torch.randn(pair.b.shape, generator=generator, dtype=torch.float64))
        for place, pair in made.pairs.items()
    }
    return Adapters(pairs, made.scale)


def test_new_adapters_add_nothing_and_can_be_trained() -> None:
    fresh = Fresh.drawn(widths(CONFIG, model().plan, ALL), 2, 0.5, torch.device("cpu"), torch.float64).rows(2)
    losses = model().token_losses(TOKENS, TARGETS, None, 0, fresh)
    torch.testing.assert_close(losses, model().token_losses(TOKENS, TARGETS), rtol=1e-12, atol=1e-12)
    losses.sum().backward()
    assert all(pair.b.grad is not None and pair.b.grad.any() for pair in fresh.pairs.values())


@pytest.mark.parametrize(
    ("name", "bank", "index", "rows"),
    [
        ("q", "qo_bank", lambda layer: layer, 16),
        ("k", "kv_bank", lambda layer: layer, 8),
        ("v", "kv_bank", lambda layer: 3 + layer, 8),
    ],
)
def test_an_adapter_is_an_addition_to_its_matrix(name: str, bank: str, index: object, rows: int) -> None:
    own = adapters((name,), rows=1)
    changed = model()
    with torch.no_grad():
        for (slot, _), (a, b) in own.pairs.items():
            layer = changed.plan.slots[slot].layer
            getattr(changed, bank)[index(layer)] += 0.5 * (b @ a)[0]  # type: ignore[operator]
    found = model().token_losses(TOKENS[:1], TARGETS[:1], None, 0, own)
    torch.testing.assert_close(found, changed.token_losses(TOKENS[:1], TARGETS[:1]), rtol=1e-10, atol=1e-10)


def test_the_adapter_of_the_head_is_an_addition_to_the_output_matrix() -> None:
    own = adapters(("head",), rows=1)
    changed = model()
    ((a, b),) = own.pairs.values()
    with torch.no_grad():
        changed.lm_head += 0.5 * (b @ a)[0]  # type: ignore[operator]
    found = model().token_losses(TOKENS[:1], TARGETS[:1], None, 4, own)
    torch.testing.assert_close(found, changed.token_losses(TOKENS[:1], TARGETS[:1], None, 4), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "scale"), [("o", "attn_scale"), ("mlp", "mlp_scale")])
def test_an_adapter_of_a_sublayer_goes_from_its_input_to_its_output_before_the_scale(name: str, scale: str) -> None:
    """Doubling the scale doubles what it adds, as it does the matrix."""
    own = adapters((name,), rows=1)
    block = model().views().blocks[1]
    x = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = own.pairs[Place(1, name)]
    added = 0.5 * (x @ a[0].T @ b[0].T) * getattr(block, scale)
    torch.testing.assert_close(own.add(x, x, 1, name, getattr(block, scale)), x + added)
    assert (
        model()
        .token_losses(TOKENS[:1], TARGETS[:1], None, 0, own)
        .sub(model().token_losses(TOKENS[:1], TARGETS[:1]))
        .abs()
        .max()
        > 1e-3
    )


def test_each_row_has_its_own() -> None:
    both = adapters()
    second = Adapters({place: LowRank(pair.a[1:], pair.b[1:]) for place, pair in both.pairs.items()}, both.scale)
    found = model().token_losses(TOKENS, TARGETS, None, 0, both)[1:]
    torch.testing.assert_close(found, model().token_losses(TOKENS[1:], TARGETS[1:], None, 0, second))


@pytest.mark.parametrize("first", [0, 1, 5, 8])
def test_only_the_positions_asked_for_are_the_same_ones(first: int) -> None:
    whole = model().token_losses(TOKENS, TARGETS, None, 0, adapters())
    torch.testing.assert_close(model().token_losses(TOKENS, TARGETS, None, first, adapters()), whole[:, first:])
