"""The preflight check: measures for a minute whether a machine is as fast as it should be and not in use by others."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf_fast import json_files
from golf_fast.doctor import gpu_state, surroundings
from golf_fast.doctor.probes import cpu_name
from golf_fast.doctor.references import DISK_READ, DISK_WRITE, EXPECTED, MEASURED, Reference, reference
from golf_fast.doctor.surroundings import Trouble
from golf_fast.report import table

if TYPE_CHECKING:  # torch is loaded when something is measured
    from golf_fast.distributed import Ranks
    from golf_fast.doctor.measure import Figure

SHARES = {"GEMM": 0.15, "memory copy": 0.1, "host to device": 0.1, "all-reduce": 0.15, "disk": 0.15, "micro-step": 0.15}
"""Share of the time for each measurement; the rest is for starting up and compiling kernels."""
_UNSTEADY = 0.3


@dataclass
class Report:
    """The result of a preflight check.

    Attributes:
        device: name of the measured device.
        figures: the measured rates; over several ranks, those of the slowest.
        skipped: reasons for measurements that were not made, by their names.
        troubles: what is slow, busy or broken, and settings that cost speed.
        seconds: duration of the check.
    """

    device: str = ""
    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether nothing is slow, busy or broken; settings that cost speed do not count."""
        return all(trouble.kind == "trap" for trouble in self.troubles)

    @property
    def reference(self) -> Reference | None:
        """The reference rates of such a device; None: there are none."""
        return reference(self.device)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        known = self.reference
        return {
            "device": self.device,
            "sound": self.sound,
            "figures": [asdict(each) | {"reference": _peak(each, known)} for each in self.figures],
            "reference": {"name": known.name, "source": known.source} if known else None,
            "skipped": self.skipped,
            "troubles": [each._asdict() for each in self.troubles],
            "seconds": self.seconds,
        }

    def lines(self) -> Iterator[str]:
        """The report as lines for people."""
        known = self.reference
        yield f"{self.device}, {self.seconds:.0f} s"
        rows = []
        for each in self.figures:
            peak = _peak(each, known)
            share = f"{each.value / peak:.0%} of {peak:,.4g} ({known.source if known else ''})" if peak else "-"
            rows.append([each.what, f"{each.value:,.4g}", each.unit, share, f"{each.spread:.0%}", each.note])
        yield table(["measured", "rate", "unit", "of the reference", "spread", "on"], rows)
        if known is None:
            yield "there are no figures to compare this device with: H100, H200, A100 and one CPU have some"
        elif known.source != MEASURED:
            yield f"the figures of {known.name} are peaks of its public data sheet, not measured; no machine has them"
        yield from (f"not measured: {what} ({why})" for what, why in self.skipped.items())
        yield from (f"{each.kind}: {each.what}: {each.text}" for each in self.troubles)
        yield "the machine looks sound" if self.sound else "the machine is not as it should be: see above"


def _peak(figure: Figure, known: Reference | None) -> float | None:
    """The peak rate of the device for a measurement; None: unknown."""
    if known is None:
        return None
    rate = {
        "GEMM": known.gemm, "memory copy": known.copy, "all-reduce": known.links, "host to device": known.host,
        "micro-step": known.step,
    }.get(figure.what, 0.0)  # fmt: skip
    if known.source == MEASURED and figure.what != "memory copy":  # for each thread
        import torch

        rate *= torch.get_num_threads()
    return rate or None


def preflight(seconds: float, folder: Path, began: float) -> Report | None:
    """Check the machine for about `seconds` at most; if torchrun started several ranks, all of them are checked.

    Args:
        seconds: time limit in seconds, counted from `began`.
        folder: folder on the disk that is measured.
        began: `time.monotonic()` at the start of the program.

    Returns:
        The report; None on all ranks but the first.

    Raises:
        InputError: some of torchrun's variables are missing or invalid.
        StoppedError: a rank did not join.
    """
    report = Report()
    report.troubles += [*surroundings.settings(os.environ), *surroundings.machine()]
    gpus, why = gpu_state.query()
    if gpus:
        report.troubles += [*gpu_state.others(), *gpu_state.state(gpus, at_work=False)]
    else:
        report.skipped["clocks and other processes of GPUs"] = why
    import torch

    from golf_fast import machine
    from golf_fast.distributed import Ranks
    from golf_fast.watched_peers import WatchedPeers

    report.troubles += surroundings.torch_version(torch.__version__, bool(torch.version.debug))
    kind = machine.choose_device("auto")[0].type
    with Ranks.from_environment(kind, peers=WatchedPeers) as ranks:
        bf16 = machine.cpu_bf16_instructions() or "no bf16 instructions"
        report.device = torch.cuda.get_device_name(ranks.device) if kind == "cuda" else f"{cpu_name()} with {bf16}"
        _measure(report, ranks, folder, began, seconds)
        together = _over_ranks(report, ranks)
    together.troubles += _slow(together)
    together.seconds = time.monotonic() - began
    return together if ranks.main else None


def _measure(report: Report, ranks: Ranks, folder: Path, began: float, seconds: float) -> None:
    from golf_fast.doctor import measure

    device = ranks.device
    works: dict[str, Callable[[float], Any]] = {
        "GEMM": lambda time: _watched(report, lambda: measure.gemm(device, time), device.type == "cuda"),
        "memory copy": lambda time: measure.copy(device, time),
        "host to device": lambda time: measure.host_to_device(device, time),
        "all-reduce": lambda time: measure.all_reduce(ranks, time),
        "disk": lambda time: list(measure.disk(folder, time)) if ranks.turn < 2 else "another rank of the machine does",
        "micro-step": lambda time: measure.micro_step(device, time),
    }
    for what, work in works.items():
        left = ranks.broadcast_float(began + seconds - time.monotonic())
        if left < 0.1 * seconds:
            report.skipped[what] = "no time is left"
            continue
        try:
            found = work(min(SHARES[what] * seconds, 0.5 * left))
        except (RuntimeError, ValueError, OSError) as error:  # out of memory, a kernel that does not compile
            if ranks.world_size > 1:
                raise
            found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            report.troubles.append(Trouble("fault", what, found))
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, str):
                report.skipped[what] = each
            else:
                report.figures.append(each)


def _watched(report: Report, work: Callable[[], Figure], on_gpu: bool) -> Figure:
    """Make a measurement, and query the GPUs' clocks meanwhile."""
    if not on_gpu:
        return work()
    seen: list[Trouble] = []
    asking = threading.Thread(target=lambda: seen.extend(gpu_state.state(gpu_state.query()[0], at_work=True)))
    asking.start()
    figure = work()
    asking.join()
    report.troubles += [trouble for trouble in seen if trouble not in report.troubles]
    return figure


def _over_ranks(report: Report, ranks: Ranks) -> Report:
    """The combined report of all ranks: the slowest value of each figure, and every trouble once."""
    if ranks.world_size == 1:
        return report
    from golf_fast.doctor.measure import Figure

    said = json.dumps([[asdict(each) for each in report.figures], [list(each) for each in report.troubles]])
    of_all = [json_files.parse(each, "what a rank found") for each in ranks.gather_bytes(said.encode())]
    together = replace(report, figures=[], troubles=[])
    names = list(dict.fromkeys(figure["what"] for figures, _ in of_all for figure in figures))
    for name in names:
        found = [
            (rank, Figure(**each))
            for rank, (figures, _) in enumerate(of_all)
            for each in figures
            if each["what"] == name
        ]
        rank, slowest = min(found, key=lambda each: each[1].value)
        fastest = max(each.value for _, each in found)
        note = f"{slowest.note}; rank {rank}, the slowest of {len(found)}; the fastest {fastest:,.4g}"
        together.figures.append(replace(slowest, note=note))
        if len(found) > 1 and slowest.value < 0.8 * fastest and name != "disk":
            text = (
                f"rank {rank} has {slowest.value:,.4g} {slowest.unit}, another {fastest:,.4g}: all wait for the slowest"
            )
            together.troubles.append(Trouble("slow", name, text))
    for _, troubles in of_all:
        for kind, what, text in troubles:
            trouble = Trouble(kind, what, text)
            if trouble not in together.troubles:
                together.troubles.append(trouble)
    return together


def _slow(report: Report) -> Iterator[Trouble]:
    """The figures that are too slow for the device."""
    known = report.reference
    for each in report.figures:
        peak = _peak(each, known)
        least = EXPECTED.get(each.what, {}).get(known.source, 0.0) if known else 0.0
        if peak and each.value < least * peak:
            share = f"{each.value / peak:.0%} of {peak:,.4g}"
            text = f"{each.value:,.4g} {each.unit} is {share}; at least {least:.0%} is expected"
            yield Trouble("slow", each.what, text)
        if each.spread > _UNSTEADY and each.runs > 5:
            yield Trouble("busy", each.what, f"its runs differ by {each.spread:.0%}: something else is at work")
    for what, least in (("disk write", DISK_WRITE), ("disk read", DISK_READ)):
        for each in report.figures:
            if each.what == what and each.value < least:
                yield Trouble("slow", what, f"{each.value:.3f} GB/s; at least {least} is expected")
