"""Reference rates of devices: from public data sheets for GPUs, and measured for one CPU."""

from __future__ import annotations

from dataclasses import dataclass

DATA_SHEET = "data sheet"
MEASURED = "measured"


@dataclass(frozen=True)
class Reference:
    """The reference rates of a device.

    Attributes:
        name: name of the device.
        source: origin of the rates, `DATA_SHEET` or `MEASURED`.
        matches: lower-case words that the device's name must contain.
        gemm: TFLOP/s of dense bfloat16 products; per thread for a CPU.
        copy: GB/s of device memory, reads and writes together; for a CPU with any number of threads.
        links: GB/s of NVLink in one direction; 0: there is none.
        host: GB/s from the host in one direction.
        step: tokens per second in forward and backward passes of the small model, per thread; 0: unknown.
    """

    name: str
    source: str
    matches: tuple[str, ...]
    gemm: float
    copy: float
    links: float = 0.0
    host: float = 0.0
    step: float = 0.0


REFERENCES = (
    Reference("H200", DATA_SHEET, ("h200",), 989.0, 4800.0, 450.0, 64.0),
    Reference("H100 PCIe", DATA_SHEET, ("h100", "pcie"), 756.0, 2000.0, 300.0, 64.0),
    Reference("H100 NVL", DATA_SHEET, ("h100", "nvl"), 835.0, 3900.0, 300.0, 64.0),
    Reference("H100 SXM", DATA_SHEET, ("h100",), 989.0, 3350.0, 450.0, 64.0),
    Reference("A100 80 GB PCIe", DATA_SHEET, ("a100", "80gb", "pcie"), 312.0, 1935.0, 300.0, 32.0),
    Reference("A100 80 GB SXM", DATA_SHEET, ("a100", "80gb"), 312.0, 2039.0, 300.0, 32.0),
    Reference("A100 40 GB", DATA_SHEET, ("a100",), 312.0, 1555.0, 300.0, 32.0),
    # One thread of a virtual machine of two cores, with other work beside it.
    Reference("AMD EPYC with AVX512_BF16", MEASURED, ("amd epyc with", "avx512_bf16"), 0.48, 37.0, step=17_000.0),
)
"""The references, of which the first match counts. No machine reaches the peaks of data sheets; see `EXPECTED`."""

EXPECTED = {
    "GEMM": {DATA_SHEET: 0.60, MEASURED: 0.6},
    "memory copy": {DATA_SHEET: 0.75, MEASURED: 0.6},
    "all-reduce": {DATA_SHEET: 0.60},
    "host to device": {DATA_SHEET: 0.60},
    "micro-step": {MEASURED: 0.6},
}
"""Share of a reference rate below which a device counts as slow, by measurement and origin of the reference. The shares
for data sheets are what a sound machine commonly exceeds with some margin; this package has not measured them."""

DISK_WRITE, DISK_READ = 0.1, 0.2
"""GB/s below which a disk counts as slow, as a checkpoint or a shard of 200 MB would take seconds."""


def reference(name: str) -> Reference | None:
    """The reference of a device, by the name that it reports; None: there is none."""
    words = name.lower().replace("-", " ")
    return next((each for each in REFERENCES if all(word in words for word in each.matches)), None)
