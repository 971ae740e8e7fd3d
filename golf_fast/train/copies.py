"""Copies of what training goes on changing."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Copies:
    """Copies of tensors as they are now, made on their device and brought to the host by whoever asks."""

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
        """Wait for the copies, on a stream of our own: the training's goes on."""
        if self._made is None:
            return self._tensors
        # A new thread begins on the first device of the machine, which may be another rank's.
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            stream.wait_event(self._made)
            found = {name: tensor.cpu() for name, tensor in self._tensors.items()}
        self._tensors.clear()
        return found
