"""Copies of tensors that training continues to change, brought to the host without holding training up."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Copies:
    """Copies of tensors, made on their device at once and moved to the host by the thread that calls `on_host`."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors: dict[str, torch.Tensor] = {
            name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
        }
        self._made = None
        self._device = next((tensor.device for tensor in self._tensors.values() if tensor.is_cuda), None)
        if self._device is not None:
            self._made = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._made.record()

    def on_host(self) -> dict[str, torch.Tensor]:
        """The copies on the CPU, moved on a separate CUDA stream, so that the stream of training is not blocked."""
        if self._made is None:
            return self._tensors
        # The current device of a new thread is device 0, which may belong to another rank.
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            stream.wait_event(self._made)
            found = {name: tensor.cpu() for name, tensor in self._tensors.items()}
        self._tensors.clear()
        return found
