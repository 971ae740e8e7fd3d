"""torch.compile with the settings that a run needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

MOST_GRAPHS = 128
"""Greatest number of graphs of one function. Training has one for each length of its rows, limit of the attention
windows and state of the loop; test-time training adds its own to the same function."""

Result = TypeVar("Result")


def compiled(function: Callable[..., Result], *, fullgraph: bool = False) -> Callable[..., Result]:
    """A function or a module, compiled for each shape of its arguments.

    By default torch makes 8 graphs of a function. Beyond that it runs the function uncompiled without an error, and
    refuses it with `fullgraph`: a run would slow down in training, or end when it is to adapt.

    Args:
        fullgraph: whether a graph break is an error.
    """
    from torch._dynamo import config as dynamo  # imported here since it takes seconds

    dynamo.recompile_limit = max(dynamo.recompile_limit, MOST_GRAPHS)
    if torch.__version__ < "2.13":
        from torch._inductor import exc

        # When torch 2.11 meets an op first it writes out the op's arguments, with all that they were made of, for its
        # log: the last block begins at a later position and has ops of its own, and the text grows eightfold with each
        # block.
        exc.OperatorIssue.operator_str = staticmethod(lambda target, args, kwargs: str(target))  # type: ignore[method-assign]
    return torch.compile(function, dynamic=False, fullgraph=fullgraph)
