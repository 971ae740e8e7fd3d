"""The plots of a run's page. Each draws with a `Pen` and gives what it makes of it; "" where nothing was recorded."""

from golf_fast.report.plots.artifact import by_layer, parts
from golf_fast.report.plots.tokens import gain, loss_along
from golf_fast.report.plots.training import rates, training

__all__ = ["by_layer", "gain", "loss_along", "parts", "rates", "training"]
