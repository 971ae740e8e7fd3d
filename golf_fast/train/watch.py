"""What steps found, read when the device has finished them: losses, and whether all was finite."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import torch

from golf_fast.errors import InputError


class NotFiniteError(InputError):
    """A loss or a gradient is no finite number. `step` is the first where that was so, the same on all ranks."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} at step {step}: lower the learning rates (train.matrix_lr, ...)")
        self.step = step


class Watch:
    """The losses of a training, and a look at each step's gradients when it is finished.

    What is read was copied into pinned memory when the device got there: reading waits for nothing.

    Args:
        names: of the parameters, in the order in which `found` has them.
        last: mean loss of the last step of an earlier process.
    """

    def __init__(self, names: Iterable[str], last: float = 0.0) -> None:
        self._names = list(names)
        self._unread: deque[tuple[int, torch.Tensor]] = deque()
        self._untold: list[tuple[int, float]] = []
        self.last = last
        """Mean loss of the last step that was read, nats a token."""
        self.losses: list[float] = []
        """The same of each."""

    def note(self, step: int, found: torch.Tensor) -> None:
        """Take in what a step was found to be, as the device will know it.

        Args:
            step: counted from 1.
            found: `[n + 1]` for the n parameters, see `Optimizer.found`; nobody writes to it any more.
        """
        if found.is_cuda:
            pinned = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            found = pinned.copy_(found, non_blocking=True)
        self._unread.append((step, found))

    def read(self, finished: int) -> None:
        """Read what is known of the steps up to `finished`, the last whose work the device has done.

        Raises:
            NotFiniteError: a loss or a gradient is no finite number; says which.
        """
        while self._unread and self._unread[0][0] <= finished:
            step, values = self._unread.popleft()
            *found, loss = values.tolist()
            if not math.isfinite(loss):
                raise NotFiniteError(step, f"train_loss is {loss}")
            for name, value in zip(self._names, found, strict=True):
                if not math.isfinite(value):
                    raise NotFiniteError(step, f"train_loss is {loss:g}, and the gradient of {name} is not finite")
            self.last = loss
            self.losses.append(loss)
            self._untold.append((step, loss))

    def news(self) -> list[tuple[int, float]]:
        """Step and loss of those that were read since the last call."""
        told, self._untold = self._untold, []
        return told
