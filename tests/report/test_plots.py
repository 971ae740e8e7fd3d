"""What the plots show, in numbers."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golf_fast.report import plots
from golf_fast.report.pen import Pen
from golf_fast.report.plots import tokens
from golf_fast.report.plots.training import curve, extremes, smoothed, thinned


@pytest.mark.parametrize("count", [1, 599, 600, 601, 6709])
def test_thinning_keeps_the_mean_the_order_and_the_extremes(count: int) -> None:
    losses = np.random.default_rng(count).normal(size=count)
    x, y = thinned(np.arange(count, dtype=np.float64), losses)
    low, high = extremes(losses)
    assert len(x) == len(low) == len(high) == min(count, 600)
    assert (np.diff(x) > 0).all()
    assert (low.min(), high.max()) == (losses.min(), losses.max()), "no spike is lost"
    assert ((low <= y) & (y <= high)).all()
    if count <= 600:
        np.testing.assert_array_equal(y, losses)
    else:
        sizes = np.diff(np.unique(np.linspace(0, count, 601).astype(np.int64)))
        np.testing.assert_allclose((y * sizes).sum(), losses.sum())
        np.testing.assert_allclose(y[0], losses[: sizes[0]].mean())


def test_the_curve_has_every_step_where_every_step_was_recorded() -> None:
    lines: list[dict[str, Any]] = [
        {"kind": "train", "step": step, "loss": 9.0, "seconds": 2.0 * step} for step in (1, 10, 20)
    ]
    steps = [{"kind": "step", "step": step, "loss": 5.0 - step / 10} for step in range(1, 21)]
    again = [{"kind": "step", "step": 20, "loss": 1.5}]
    by_step = curve([*lines, *steps, *again], "step")
    by_time = curve([*lines, *steps, *again], "seconds")
    assert by_step is not None
    assert by_time is not None
    np.testing.assert_array_equal(by_step[0], np.arange(1, 21))
    np.testing.assert_allclose(by_time[0], 2.0 * np.arange(1, 21))
    assert by_step[1].tolist() == by_time[1].tolist() == [5.0 - step / 10 for step in range(1, 20)] + [1.5]
    only = curve(lines, "step")
    assert only is not None
    assert only[0].tolist() == [1, 10, 20]
    assert curve(steps, "seconds") is None
    assert curve([], "step") is None


def test_smoothing_keeps_a_constant_and_follows_a_step() -> None:
    np.testing.assert_allclose(smoothed(np.full(100, 3.0)), 3.0)
    after = smoothed(np.concatenate([np.zeros(1000), np.ones(1000)]))
    assert after[999] == 0
    np.testing.assert_allclose(after[1024], 1 - math.exp(-1), atol=0.01)
    assert after[-1] > 0.999


def test_rates_are_those_of_every_group() -> None:
    svg = plots.rates(Pen(), [1.0, 0.5], [0.9, 0.99], {"matrices": 0.02, "scalars": 0.02, "embeddings": 0.6})
    for text in ("matrices, scalars", "embeddings", "momentum", "learning rate", "embeddings at most 0.6"):
        assert text in svg
    assert "learning-rate factor" in plots.rates(Pen(), [1.0], [0.9], {})
    assert plots.rates(Pen(), [], [], {}) == ""
    assert plots.rates(Pen(), [1.0, 1.0], [0.9], {}) == ""


def test_tensors_are_drawn_by_layer_and_kind() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "tensor", "name": f"blocks.{layer}.{name}.weight", "bits": 4.0 + layer, "error": 0.01 * layer}
        for layer in range(3)
        for name in ("attn.c_q", "mlp.fc")
    ]
    records.append({"kind": "tensor", "name": "tok_emb.weight", "bits": 99.0, "error": 99.0})
    bits, error = (plots.by_layer(Pen(), records, of) for of in ("bits", "error"))
    assert "Bits a weight by layer, for attn.c_q, mlp.fc: from 4 to 6." in bits
    assert "from 0 to 2." in error
    assert "attn.c_q" in bits
    assert plots.by_layer(Pen(), records[-1:], "bits") == ""


def test_a_picture_is_a_png_in_the_light_colours(tmp_path: Path) -> None:
    picture = tmp_path / "plots" / "a.png"
    assert plots.parts(Pen(picture), {"a": 3}) == ""
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture.read_bytes()) > 2000
    written = plots.parts(Pen(tmp_path / "a.svg"), {"a": 3})
    assert written == ""
    assert "#2563a8" in (tmp_path / "a.svg").read_text()


def test_token_losses_are_summed_in_float64_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_TOKENS_AT_A_TIME", 7)
    losses = np.full(100, 1 / 3, dtype=np.float32)
    losses[3] = 2e7
    assert tokens._sum(io.BytesIO(losses.tobytes()), 2, 95) == losses[2:95].sum(dtype=np.float64)


@pytest.mark.parametrize("count", [0, 1, 7, 12345])
def test_any_number_of_token_losses(tmp_path: Path, count: int) -> None:
    path = tmp_path / "token_losses"
    np.ones(count, dtype="<f4").tofile(path)
    assert plots.loss_along(Pen(), path).startswith("<svg") is (count > 0)


def test_many_parts_are_a_dozen_bars() -> None:
    svg = plots.parts(Pen(), {f"part {index}": 1000 - index for index in range(30)})
    assert "part 10" in svg
    assert "part 11" not in svg
    assert "19 others" in svg
    assert f"{sum(1000 - index for index in range(11, 30)):,}" in svg


def test_parts_of_no_bytes() -> None:
    assert plots.parts(Pen(), {}) == ""
    assert plots.parts(Pen(), {"a": 0}).startswith("<svg")


def test_records_without_numbers_are_no_plot() -> None:
    assert plots.training(Pen(), [{"kind": "train", "step": 1, "loss": None}], "step") == ""
    assert plots.training(Pen(), [{"kind": "train", "step": 1, "loss": 2.0}], "seconds") == ""
    assert plots.training(Pen(), [{"kind": "train", "step": 1, "loss": 2.0}], "step").startswith("<svg")


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "token_losses"
    path.write_bytes(np.ones(50, np.float32).tobytes())
    with path.open("rb") as file, pytest.raises(ValueError, match="token_losses: it became shorter"):
        tokens._sum(file, 0, 51)


@pytest.mark.parametrize("backend", ["module://nowhere.backend", "nonsense", ""])
def test_the_caller_s_backend_does_not_matter(backend: str) -> None:
    program = (
        "import os; from golf_fast.report import plots; from golf_fast.report.pen import Pen\n"
        "assert '<svg' in plots.parts(Pen(), {'a': 3})\n"
        "print(os.environ['MPLBACKEND'])"
    )
    environ = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{backend}\n"), done.stderr
