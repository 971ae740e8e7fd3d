"""Adapters: nothing when they are new, a change of the matrices when they are not, each row its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from helpers import top_models

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


CONFIGS = {"seed": CONFIG, "top": dataclasses.replace(top_models.SMALL_TOP, vocab_size=40, tied_embeddings=False)}


def model(config: ModelConfig = CONFIG) -> GPT:
    made = GPT(config, compute_dtype=torch.float64).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made


def adapters(names: tuple[str, ...] = ALL, rows: int = 2, config: ModelConfig = CONFIG) -> Adapters:
    """With second factors that are not zero, other ones for each row."""
    generator = torch.Generator().manual_seed(8)
    made = Fresh.drawn(widths(config, model(config).plan, names), 2, 0.5, torch.device("cpu"), torch.float64).rows(rows)
    pairs = {
        place: LowRank(pair.a, torch.randn(pair.b.shape, generator=generator, dtype=torch.float64))
        for place, pair in made.pairs.items()
    }
    return Adapters(pairs, made.scale)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_new_adapters_add_nothing_and_can_be_trained(config: ModelConfig) -> None:
    own = model(config)
    fresh = Fresh.drawn(widths(config, own.plan, ALL), 2, 0.5, torch.device("cpu"), torch.float64).rows(2)
    assert len(fresh.pairs) == 5 * len(own.plan.slots) + 1
    losses = own.token_losses(TOKENS, TARGETS, None, 0, fresh)
    torch.testing.assert_close(losses, own.token_losses(TOKENS, TARGETS), rtol=1e-12, atol=1e-12)
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


@pytest.mark.parametrize("config", [CONFIGS["top"]], ids=["top"])
@pytest.mark.parametrize(
    ("name", "bank", "index"),
    [
        ("q", "qo_bank", lambda layer: layer),
        ("k", "kv_bank", lambda layer: layer),
        ("v", "kv_bank", lambda layer: 5 + layer),
    ],
)
def test_equal_adapters_in_all_slots_of_a_layer_are_an_addition_to_its_matrix(
    name: str, bank: str, index: Callable[[int], int], config: ModelConfig
) -> None:
    """Adapters are of slots, and read what the matrix reads, scaled as it is."""
    own, changed = adapters((name,), rows=1, config=config), model(config)
    slots = changed.plan.slots
    first = {slot.layer: i for i, slot in reversed(list(enumerate(slots)))}
    same = {Place(i, name): own.pairs[Place(first[slot.layer], name)] for i, slot in enumerate(slots)}
    with torch.no_grad():
        for layer, i in first.items():
            a, b = own.pairs[Place(i, name)]
            getattr(changed, bank)[index(layer)] += 0.5 * (b @ a)[0]
    found = model(config).token_losses(TOKENS[:1], TARGETS[:1], None, 0, Adapters(same, own.scale))
    torch.testing.assert_close(found, changed.token_losses(TOKENS[:1], TARGETS[:1]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["o", "mlp"])
def test_an_adapter_of_a_sublayer_reads_the_scaled_norm(name: str) -> None:
    """A change of the matrix behind it that does what the adapter does: in the lanes and before them, slot by slot."""
    config = CONFIGS["top"]
    for slot in range(9):
        plain, own = model(config), adapters((name,), rows=1, config=config)
        layer = plain.plan.slots[slot].layer
        only = Adapters({Place(slot, name): own.pairs[Place(slot, name)]}, own.scale)
        seen: list[tuple[str, torch.Tensor]] = []

        class Sees:
            def sees(self, activation: str, of: int | None, x: torch.Tensor) -> None:
                if of == layer:  # noqa: B023
                    seen.append((activation, x.detach()))  # noqa: B023

        plain.observer = Sees()  # type: ignore[assignment]
        plain.token_losses(TOKENS[:1], TARGETS[:1])
        plain.observer = None
        wanted = "attention" if name == "o" else "mlp"
        runs = [i for i, other in enumerate(plain.plan.slots) if other.layer == layer]
        x = [x for activation, x in seen if activation == wanted][runs.index(slot)]
        a, b = only.pairs[Place(slot, name)]
        scale = (plain.attn_scale if name == "o" else plain.mlp_scale)[layer]
        y = torch.zeros_like(x)
        block = plain.views().blocks[slot]
        found = only.add(y, x / block.norm_scale, slot, name, block.attn_scale if name == "o" else block.mlp_scale)
        torch.testing.assert_close(found, 0.5 * (x @ a[0].T @ b[0].T) * scale)
        moved = plain.token_losses(TOKENS[:1], TARGETS[:1], None, 0, only) - plain.token_losses(TOKENS[:1], TARGETS[:1])
        assert float(moved.detach().abs().max()) > 1e-6


def test_each_row_has_its_own() -> None:
    both = adapters()
    second = Adapters({place: LowRank(pair.a[1:], pair.b[1:]) for place, pair in both.pairs.items()}, both.scale)
    found = model().token_losses(TOKENS, TARGETS, None, 0, both)[1:]
    torch.testing.assert_close(found, model().token_losses(TOKENS[1:], TARGETS[1:], None, 0, second))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("first", [0, 1, 5, 8])
def test_only_the_positions_asked_for_are_the_same_ones(first: int, config: ModelConfig) -> None:
    own = adapters(config=config)
    whole = model(config).token_losses(TOKENS, TARGETS, None, 0, own)
    torch.testing.assert_close(model(config).token_losses(TOKENS, TARGETS, None, first, own), whole[:, first:])
