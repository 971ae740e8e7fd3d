"""The plan of a pass as data, blocks as views of banks, documents in a row, and what torch.compile makes of them."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from helpers import top_models
from helpers.random_models import model_of

from golf_fast.config import ModelConfig
from golf_fast.model import GPT, parameters
from golf_fast.model.parameters import Constant, Part, Row
from golf_fast.model.plan import Plan, Slot, plan_of
from golf_fast.ops import backends

TINY = ModelConfig(vocab_size=30, dim=16, layers=4, heads=4, kv_heads=2, bigram_buckets=11, bigram_dim=4)


TOP = top_models.SMALL_TOP


def rows(count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, TINY.vocab_size, (count, length + 1), generator=torch.Generator().manual_seed(length))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize(
    ("layers", "skips", "added"),
    [
        (1, {}, {}),
        (2, {1: (0, 0)}, {}),
        (3, {1: (0, 0)}, {}),
        (5, {2: (1, 0), 3: (0, 1)}, {3: 0}),
        (10, {5: (4, 0), 6: (3, 1), 7: (2, 2), 8: (1, 3), 9: (0, 4)}, {6: 3, 7: 2, 8: 1, 9: 0}),
    ],
)
def test_the_u_net_takes_the_last_output_first(
    layers: int, skips: dict[int, tuple[int, int]], added: dict[int, int]
) -> None:
    plan = plan_of(dataclasses.replace(TINY, layers=layers))
    assert [slot.layer for slot in plan.slots] == list(range(layers))
    found = {i: (slot.skip_from, slot.skip_row) for i, slot in enumerate(plan.slots) if slot.skip_from is not None}
    assert found == skips
    assert {i: source for i in range(layers) if (source := plan.added(i)) is not None} == added
    assert plan.kept == set(added.values())
    assert plan.backout_from == layers // 2


def test_the_backout_is_where_the_config_says() -> None:
    assert plan_of(dataclasses.replace(TINY, backout_layer=0)).backout_from == 0
    assert plan_of(dataclasses.replace(TINY, backout=False)).backout_from is None


@pytest.mark.parametrize(
    "slots",
    [
        (Slot(0), Slot(1, 1, 0)),
        (Slot(0), Slot(1), Slot(2, 2, 0)),
        (Slot(0), Slot(1), Slot(2, 0, 0), Slot(3, 0, 1)),
        (Slot(0), Slot(1, 0)),
        (Slot(0), Slot(1), Slot(2, 0, 0), Slot(3), Slot(1, 1, 1)),
    ],
    ids=["its own output", "a later one", "an output twice", "no weight", "an output behind a skip"],
)
def test_a_plan_that_no_pass_can_follow_is_none(slots: tuple[Slot, ...]) -> None:
    with pytest.raises(AssertionError):
        Plan(slots)


def test_a_layer_that_runs_twice_is_two_layers_with_equal_weights() -> None:
    """The plan is data: layers may come again, in another slot and with another skip."""
    looped, unrolled = model_of(TINY), model_of(dataclasses.replace(TINY, layers=6))
    layers = (0, 1, 2, 3, 2, 3)
    skips = {3: (2, 1), 5: (0, 0)}
    looped.plan = Plan(tuple(Slot(layer, *skips.get(i, ())) for i, layer in enumerate(layers)), backout_from=4)
    unrolled.plan = Plan(tuple(Slot(i, *skips.get(i, ())) for i in range(6)), backout_from=4)
    with torch.no_grad():
        for row, bank in looped.claimed("the test"):
            other = unrolled.get_parameter(row.name)
            if row.layers:
                for part, (own, theirs) in enumerate(
                    zip(bank.chunk(len(row.parts)), other.chunk(len(row.parts)), strict=True)
                ):
                    assert own.shape[0] == 4, part
                    theirs.copy_(own[list(layers)])
            elif row.name == "skip_weights":
                other[:2] = bank
            else:
                other.copy_(bank)
    tokens, targets = rows(2, 9)
    loss, expected = looped(tokens, targets), unrolled(tokens, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    loss.backward()
    expected.backward()
    of_layer_2 = unrolled.mlp_up.grad[2] + unrolled.mlp_up.grad[4]
    torch.testing.assert_close(looped.mlp_up.grad[2], of_layer_2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        looped.resid_mix.grad[3], unrolled.resid_mix.grad[3] + unrolled.resid_mix.grad[5], rtol=1e-10, atol=1e-12
    )


def test_a_loop_repeats_its_stretch_and_takes_every_output_once() -> None:
    """The order of the published stack: 17 slots, of which the first eight are pushed."""
    assert [slot.layer for slot in plan_of(top_models.TOP).slots] == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, *range(6, 11)]
    looped, early = plan_of(top_models.TOP), plan_of(top_models.TOP, looped=False)
    assert [slot.skip_from for slot in looped.slots[8:]] == [7, 6, 5, 4, 3, 2, 1, 0, None]
    assert [slot.skip_row for slot in looped.slots[8:]] == [*range(8), None]
    assert [slot.layer for slot in early.slots] == list(range(11))
    assert [slot.skip_row for slot in early.slots] == [None] * 5 + [0, 1, 2, 3, 4, None]
    assert (looped.lanes_from, early.lanes_from) == (14, 8)


def test_the_backout_reads_the_last_run_of_its_block() -> None:
    config = dataclasses.replace(TINY, loops=2, loop_start=1, loop_end=2)
    assert [slot.layer for slot in plan_of(config).slots] == [0, 1, 2, 1, 2, 1, 2, 3]
    assert plan_of(config).backout_from == 6


def test_lanes_have_no_output_for_a_later_slot() -> None:
    with pytest.raises(AssertionError, match="no one output"):
        Plan((Slot(0), Slot(1), Slot(2), Slot(3, 1, 0)), lanes_from=1)
    with pytest.raises(AssertionError, match="no one output"):
        Plan((Slot(0), Slot(1), Slot(2)), backout_from=1, lanes_from=1)


def test_a_row_that_no_formula_reads_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = parameters.table
    silent = Row("gate_bank", (4, 16), "vector", (Part("attn.gate", Constant(0), "control"),), (0, 1, 2, 3))
    monkeypatch.setattr(parameters, "table", lambda config: (*table(config), silent))
    with pytest.raises(ValueError, match=r"gate_bank has a row .* no formula"):
        GPT(TINY)


@pytest.mark.parametrize("config", [TINY, TOP], ids=["seed", "top"])
@pytest.mark.parametrize("lengths", [(9,), (4, 5), (1, 1, 6, 1), (3, 6, 0, 0)], ids=str)
def test_a_packed_row_is_its_documents_by_themselves(lengths: tuple[int, ...], config: ModelConfig) -> None:
    model = model_of(config)
    tokens, targets = rows(1, 9)
    ends = torch.tensor((0, *lengths)).cumsum(0)
    packed = model.token_losses(tokens, targets, documents=ends.int())[0]
    spans = [slice(start, end) for start, end in itertools.pairwise(ends.tolist()) if end > start]
    apart = torch.cat([model.token_losses(tokens[:, span], targets[:, span])[0] for span in spans])
    torch.testing.assert_close(packed, apart, rtol=1e-10, atol=1e-10)
    if len(spans) > 1:
        whole = model.token_losses(tokens, targets)[0]
        assert float((whole - packed).detach()[spans[1]].abs().max()) > 1e-3
    leaves = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(packed.mean(), leaves), torch.autograd.grad(apart.mean(), leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    logits = model.logits(tokens, documents=ends.int())
    torch.testing.assert_close(logits[:, spans[-1]], model.logits(tokens[:, spans[-1]]), rtol=1e-10, atol=1e-10)


def test_documents_of_several_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="one row"):
        model_of(TINY)(*rows(2, 9), torch.tensor([0, 4, 9], dtype=torch.int32))


@pytest.fixture
def graphs():
    """How many graphs torch.compile made so far."""
    torch._dynamo.reset()
    backends.describe("cpu")
    counts = torch._dynamo.utils.counters["stats"]
    before = counts["unique_graphs"]
    yield lambda: counts["unique_graphs"] - before
    torch._dynamo.reset()


@pytest.mark.parametrize("eager_first", [False, True])
def test_an_uncompiled_call_makes_no_graph_anew(eager_first: bool, graphs) -> None:
    """Whatever runs between two compiled steps, of whatever length, dtype of gradients and mode: one graph."""
    model = model_of(TINY, torch.float32)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    tokens, targets = rows(2, 9)

    def eager() -> None:
        model(tokens, targets).backward()
        with torch.no_grad():
            model.logits(torch.cat([tokens, tokens], dim=1))
        with torch.inference_mode():
            model.token_losses(tokens, targets, first=5)

    if eager_first:
        eager()
    losses = []
    for _ in range(3):
        losses.append(compiled(tokens, targets))
        losses[-1].backward()
        assert graphs() == 1
        eager()
    torch.testing.assert_close(losses[0], losses[2])
    torch.testing.assert_close(losses[0], model(tokens, targets))


def test_a_loop_is_a_second_graph_and_no_third(graphs) -> None:
    short = dataclasses.replace(TOP, layers=3, xsa_layers=3, loops=1, loop_start=0, loop_end=0, lanes_from=2)
    model = model_of(short, dtype=torch.float32)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    tokens, targets = rows(2, 9)
    losses = {}
    for looped, made in ((False, 1), (True, 2), (False, 2), (True, 2)):
        model.loop(looped)
        loss = compiled(tokens, targets)
        loss.backward()
        assert graphs() == made
        torch.testing.assert_close(loss, model(tokens, targets))
        torch.testing.assert_close(loss, losses.setdefault(looped, loss), rtol=0, atol=0)
    assert abs(float((losses[True] - losses[False]).detach())) > 1e-3


def test_other_documents_make_no_graph_anew(graphs) -> None:
    model = model_of(TINY, torch.float32)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    tokens, targets = rows(1, 9)
    for ends in ([0, 4, 9, 9], [0, 1, 2, 9], [0, 9, 9, 9]):
        documents = torch.tensor(ends, dtype=torch.int32)
        torch.testing.assert_close(compiled(tokens, targets, documents), model(tokens, targets, documents))
    assert graphs() == 1
