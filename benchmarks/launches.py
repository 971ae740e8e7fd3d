"""Counts the kernels that a piece of work launches, by intercepting the dispatch of torch's operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from golf_fast import ops
from golf_fast.ops.newton_schulz import flat_banks
from golf_fast.ops.newton_schulz import operators as operators_of_newton_schulz
from golf_fast.ops.update import reference as update

PRODUCTS = ("bmm", "mm", "baddbmm", "addmm", "symmetric_product")
NONE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "promote_types", "lift_fresh")
NONE += ("_unsafe_view", "_reshape_alias", "_record_function_enter_new", "_RecordFunction", "_record_function_exit")
"""Operators that launch nothing."""


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        returned = func._schema.returns
        view = any(out.alias_info is not None and not out.alias_info.is_write for out in returned)
        if not view and func.__name__.partition(".")[0] not in NONE:
            self.found[func.__name__.partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def operators(work: Callable[[], object]) -> Counter[str]:
    """The numbers of operators that compute or move data, by name, including matrix products.

    An operator on a list counts once. Newton-Schulz is counted like its Triton path: norms, a division that rounds and,
    for tall matrices, a copy; what its reference does between products is part of the kernels. The factors and the
    momentum of an update count as one kernel each.
    """
    counting = _Counting()

    def one_kernel(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            counting.found[name] += 1
            with _disable_current_modes():
                return work(*arguments, **keywords)

        return counted

    with (
        mock.patch.object(ops, "update_factors", one_kernel("update_factors", update.factors)),
        mock.patch.object(ops, "nesterov", one_kernel("nesterov", update.nesterov)),
        mock.patch.object(ops, "newton_schulz", operators_of_newton_schulz.newton_schulz),
        mock.patch.object(flat_banks, "normalizes_together", return_value=True),
        mock.patch.object(flat_banks, "require_dtype"),
        mock.patch.object(operators_of_newton_schulz, "symmetric_product", _product),
        counting,
    ):
        work()
    return counting.found


def launches(work: Callable[[], object]) -> int:
    """The number of operators of `work` that compute or move data, without matrix products."""
    return sum(count for name, count in operators(work).items() if name not in PRODUCTS)


def _product(x: torch.Tensor, add: torch.Tensor | None, alpha: float, beta: float) -> torch.Tensor:
    return torch.bmm(x, x.mT) if add is None else torch.baddbmm(add, x, x.mT, beta=beta, alpha=alpha)
