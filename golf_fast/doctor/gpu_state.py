"""The state of the GPUs according to nvidia-smi: clocks, throttling, and other processes. Needs no torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from golf_fast.doctor.surroundings import Trouble

_FIELDS = (
    "index", "uuid", "name", "clocks.sm", "clocks.max.sm", "temperature.gpu", "power.draw", "power.limit",
    "utilization.gpu", "memory.used", "memory.total", "ecc.errors.uncorrected.volatile.total",
    "pcie.link.width.current", "pcie.link.width.max", "mig.mode.current",
)  # fmt: skip
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The newer name and the older."""
THROTTLES = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "its temperature (software)",
    0x40: "its temperature (hardware)",
    0x80: "a power brake of the machine",
    0x02: "clocks that were set for applications",
    0x10: "other GPUs (sync boost)",
}
"""Reasons for throttled clocks, by bit of the mask. The lowest bit, idle, is not one."""
_HARMLESS = 0x04
"""The bit of the power limit, at which a busy GPU is expected to be."""
_SECONDS = 15


@dataclass(frozen=True)
class Gpu:
    """A GPU, with fields by nvidia-smi's names; unknown ones are missing."""

    fields: dict[str, str]
    reasons: int
    """Bit mask of the reasons for throttled clocks."""

    def number(self, name: str) -> float | None:
        try:
            return float(self.fields[name])
        except (KeyError, ValueError):
            return None

    @property
    def label(self) -> str:
        return f"gpu {self.fields.get('index', '?')}"


def query() -> tuple[list[Gpu], str]:
    """All GPUs of the machine; or an empty list and the reason."""
    why = ""
    for reasons in _REASONS:
        rows, why = _ask(f"--query-gpu={','.join((*_FIELDS, reasons))}")
        if rows:
            return [_gpu(row) for row in rows], ""
    return [], why


def _gpu(row: list[str]) -> Gpu:
    *values, reasons = row
    try:
        bits = int(reasons, 16)
    except ValueError:
        bits = 0
    return Gpu(dict(zip(_FIELDS, values, strict=False)), bits)


def others() -> Iterator[Trouble]:
    """Other processes on the GPUs."""
    names = {gpu.fields.get("uuid", ""): gpu.label for gpu in query()[0]}
    rows, _ = _ask("--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory")
    for row in rows:
        if len(row) == 4 and row[1] != str(os.getpid()):
            held = f"{row[3]} MiB" if row[3].isdigit() else "memory"
            yield Trouble("busy", names.get(row[0], row[0]), f"process {row[1]} ({row[2]}) holds {held} of its memory")


def state(gpus: list[Gpu], at_work: bool) -> Iterator[Trouble]:
    """Problems of GPUs.

    Args:
        gpus: the GPUs, as `query` returned them.
        at_work: whether they were computing for this program at the time.
    """
    for gpu in gpus:
        for bit, why in THROTTLES.items():
            if gpu.reasons & bit and bit != _HARMLESS:
                yield Trouble("slow", gpu.label, f"its clocks are held down by {why}")
        clock, fastest = gpu.number("clocks.sm"), gpu.number("clocks.max.sm")
        if at_work and clock and fastest and clock < 0.7 * fastest:
            yield Trouble("slow", gpu.label, f"runs at {clock:.0f} of {fastest:.0f} MHz at work")
        busy = gpu.number("utilization.gpu")
        if not at_work and busy and busy > 10:
            yield Trouble("busy", gpu.label, f"computes for others, {busy:.0f} % of the time")
        errors = gpu.number("ecc.errors.uncorrected.volatile.total")
        if errors:
            yield Trouble(
                "fault", gpu.label, f"{errors:.0f} memory errors that could not be corrected; take another machine"
            )
        width, widest = gpu.number("pcie.link.width.current"), gpu.number("pcie.link.width.max")
        if width and widest and width < widest:
            yield Trouble("slow", gpu.label, f"has {width:.0f} of {widest:.0f} lanes to the host")
        if gpu.fields.get("mig.mode.current") == "Enabled":
            yield Trouble("trap", gpu.label, "is cut in parts (MIG): only one of them is seen here")


def _ask(query: str) -> tuple[list[list[str]], str]:
    """The rows of nvidia-smi's answer; or an empty list and the reason."""
    try:
        said = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {getattr(error, 'strerror', None) or f'no answer within {_SECONDS} s'}"
    if said.returncode:
        return [], f"nvidia-smi: {' '.join((said.stdout or said.stderr).split())[:200]}"
    return [[cell.strip() for cell in line.split(",")] for line in said.stdout.splitlines() if line.strip()], ""
