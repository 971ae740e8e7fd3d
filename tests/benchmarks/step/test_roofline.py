"""Floors of the time of a step, from operations and bytes."""

from __future__ import annotations

import pytest
from helpers.small_step import TRAIN

from benchmarks.step import roofline
from golf_fast.recipes import seed


def test_floors_are_those_of_the_roofline_of_the_seed() -> None:
    shapes = roofline.Shapes(seed().model, 48, 2048, 2)
    at = roofline.Ceilings(800, 3000)
    ahead, back = (
        {piece.name: piece.floor_ms(at) for pieces in way(shapes).values() for piece in pieces}
        for way in (roofline.forward, roofline.backward)
    )
    assert {name: round(floor, 2) for name, floor in ahead.items()} == {
        "embedding": 0.07,
        "QKV": 1.68,
        "attention": 2.58,
        "output + residual": 1.01,
        "MLP up": 1.93,
        "MLP down + residual": 1.93,
        "head + loss": 0.13,
    }
    assert {name: round(floor, 2) for name, floor in back.items()} == {
        "embedding": 0.16,
        "dx (attention)": 1.68,
        "dWqkv": 1.29,
        "attention": 6.45,
        "dO": 0.67,
        "dWo": 0.67,
        "dpre": 2.35,
        "dW up + dW down": 3.87,
        "dx (MLP)": 2.01,
        "mix": 1.01,
        "head": 0.26,
    }
    assert round(sum(ahead.values()), 1) == 9.3
    assert round(sum(back.values()), 1) == 20.4


def test_a_floor_is_the_slower_of_its_two_ceilings() -> None:
    work = roofline.Work("w", flops=3e9, bytes_moved=8e6)
    assert work.floor_ms(roofline.Ceilings(1.0, 1e9)) == pytest.approx(3.0)
    assert work.floor_ms(roofline.Ceilings(1e9, 2.0)) == pytest.approx(4.0)


def test_newton_schulz_has_the_same_floor_for_a_matrix_and_its_transpose() -> None:
    def muon(*shape: int) -> roofline.Work:
        pieces = roofline.optimizer([shape], 0, TRAIN, 2, average=False)
        assert "average" not in pieces
        return pieces["Muon"][0]

    assert muon(3, 8, 20) == muon(3, 20, 8)
    assert muon(8, 8).flops == 5 * 4 * 8**3
    assert muon(3, 8, 8).flops == 3 * muon(8, 8).flops
