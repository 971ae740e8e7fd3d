"""The preflight says when a machine is slow, busy or broken, and when it is not; nvidia-smi is played by a script."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.ranks import Job

from golf_fast.console import exit_with
from golf_fast.distributed import Ranks
from golf_fast.doctor import __main__ as program
from golf_fast.doctor import gpu_state, measure, preflight, surroundings
from golf_fast.doctor.measure import Figure
from golf_fast.doctor.preflight import Report
from golf_fast.doctor.references import REFERENCES, reference
from golf_fast.doctor.surroundings import Trouble

CPU = torch.device("cpu")
GOOD = {
    "index": "0", "uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "clocks.sm": "1980", "clocks.max.sm": "1980",
    "temperature.gpu": "41", "power.draw": "690.12", "power.limit": "700.00", "utilization.gpu": "0",
    "memory.used": "3", "memory.total": "81559", "ecc.errors.uncorrected.volatile.total": "0",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16", "mig.mode.current": "Disabled",
}  # fmt: skip


def nvidia_smi(folder: Path, gpu: dict[str, str], reasons: str, processes: str = "", newer: bool = True) -> str:
    """A PATH with a program that answers as nvidia-smi does."""
    field = "clocks_event_reasons.active" if newer else "clocks_throttle_reasons.active"
    path = folder / "nvidia-smi"
    path.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"gpu, processes, field = {dict(gpu)!r}, {processes!r}, {field!r}\n"
        f"gpu[field] = {reasons!r}\n"
        "asked = sys.argv[1]\n"
        "if asked.startswith('--query-gpu='):\n"
        "    names = asked.partition('=')[2].split(',')\n"
        "    unknown = [name for name in names if name not in gpu]\n"
        "    if unknown:\n"
        "        print(f'Field \"{unknown[0]}\" is not a valid field to query.')\n"
        "        sys.exit(2)\n"
        "    print(', '.join(gpu[name] for name in names))\n"
        "else:\n"
        "    print(processes, end='')\n"
    )
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("change", "reasons", "at_work", "says"),
    [
        ({}, "0x0000000000000000", True, []),
        ({}, "0x0000000000000001", False, []),
        ({}, "0x0000000000000004", True, []),
        ({}, "0x0000000000000060", True, [("slow", "(software)"), ("slow", "(hardware)")]),
        ({}, "0x0000000000000088", True, [("slow", "a hardware slowdown"), ("slow", "a power brake")]),
        ({"clocks.sm": "900"}, "0x0", True, [("slow", "runs at 900 of 1980 MHz at work")]),
        ({"clocks.sm": "345"}, "0x1", False, []),
        ({"utilization.gpu": "97"}, "0x0", False, [("busy", "computes for others, 97 % of the time")]),
        ({"utilization.gpu": "97"}, "0x0", True, []),
        ({"ecc.errors.uncorrected.volatile.total": "2"}, "0x0", True, [("fault", "2 memory errors")]),
        ({"ecc.errors.uncorrected.volatile.total": "[N/A]"}, "0x0", True, []),
        ({"pcie.link.width.current": "8"}, "0x0", True, [("slow", "has 8 of 16 lanes")]),
        ({"mig.mode.current": "Enabled"}, "0x0", True, [("trap", "is cut in parts")]),
    ],
)
@pytest.mark.parametrize("newer", [True, False])
def test_what_nvidia_smi_says_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    reasons: str,
    at_work: bool,
    says: list[tuple[str, str]],
    newer: bool,
) -> None:
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path, GOOD | change, reasons, newer=newer))
    gpus, why = gpu_state.query()
    assert (len(gpus), why) == (1, "")
    found = list(gpu_state.state(gpus, at_work))
    assert [trouble.kind for trouble in found] == [kind for kind, _ in says]
    for trouble, (_, text) in zip(found, says, strict=True):
        assert text in trouble.text
        assert trouble.what == "gpu 0"


def test_other_processes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = f"GPU-a, 4711, python train.py, 40123\nGPU-a, {os.getpid()}, python, 500\n"
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path, GOOD, "0x0", processes))
    assert list(gpu_state.others()) == [
        Trouble("busy", "gpu 0", "process 4711 (python train.py) holds 40123 MiB of its memory")
    ]


def test_without_nvidia_smi_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_state.query() == ([], "nvidia-smi: No such file or directory")
    assert list(gpu_state.others()) == []


@pytest.mark.parametrize("name", surroundings.TRAPS)
def test_settings_that_cost_speed_are_named(name: str) -> None:
    value = surroundings.TRAPS[name][0]
    assert [trouble[:2] for trouble in surroundings.settings({name: value.lower()})] == [("trap", name)]
    assert list(surroundings.settings({name: "0" if value == "1" else "1"})) == []


def test_threads_under_torchrun() -> None:
    assert [trouble.what for trouble in surroundings.settings({"WORLD_SIZE": "8"})] == ["OMP_NUM_THREADS"]
    assert not list(surroundings.settings({"WORLD_SIZE": "8", "OMP_NUM_THREADS": "4"}))
    assert not list(surroundings.settings({"WORLD_SIZE": "1"}))


@pytest.mark.parametrize(
    ("version", "debug", "says"),
    [
        ("2.13.0+cu130", False, []),
        ("2.11.0", False, []),
        ("2.9.1+cu128", False, ["is none of 2.11 to 2.14"]),
        ("2.15.0.dev20260901+cu130", False, ["is no release", "is none of"]),
        ("2.12.0a0+gitabc", False, ["is no release"]),
        ("2.12.0", True, ["was built for debugging"]),
    ],
)
def test_versions_of_torch(version: str, debug: bool, says: list[str]) -> None:
    found = list(surroundings.torch_version(version, debug))
    assert len(found) == len(says)
    assert all(text in trouble.text for trouble, text in zip(found, says, strict=True))


def test_the_surroundings_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    files = {
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "proc/meminfo": "MemTotal: 1024000 kB\nMemAvailable: 20480 kB\nSwapTotal: 90000 kB\nSwapFree: 10000 kB\n",
        "dev/shm/x": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 16384, 1, 1, 1, 1, 1, 0, 255)))
    found = {trouble.what: trouble for trouble in surroundings.machine(tmp_path, load=99.0)}
    assert set(found) == {"container", "CPU governor", "memory", "swap", "/dev/shm", "load"}
    assert found["container"].text.startswith("may use 1.5 of 64 cores; set OMP_NUM_THREADS to at most 1")
    assert "20 of 1,000 MiB" in found["memory"].text
    assert "78 MiB" in found["swap"].text
    assert "64 MiB" in found["/dev/shm"].text
    assert found["load"].kind == "busy"
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert surroundings.quota(tmp_path / "sys/fs/cgroup") is None
    (tmp_path / "sys/fs/cgroup/cpu.max").unlink()
    assert surroundings.quota(tmp_path / "sys/fs/cgroup") is None
    (tmp_path / "sys/fs/cgroup/cpu").mkdir()
    for name, content in (("quota", "250000"), ("period", "100000")):
        (tmp_path / "sys/fs/cgroup/cpu" / f"cpu.cfs_{name}_us").write_text(content)
    assert surroundings.quota(tmp_path / "sys/fs/cgroup") == 2.5


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA L4", None),
        ("AMD EPYC with AVX512_BF16 (AVX512)", "AMD EPYC with AVX512_BF16"),
        ("AMD EPYC 7763 64-Core Processor with no bf16 instructions", None),
    ],
)
def test_references_are_found_by_name(name: str, known: str | None) -> None:
    found = reference(name)
    assert (found.name if found else None) == known
    assert len({each.name for each in REFERENCES}) == len(REFERENCES)


def figure(what: str, value: float, spread: float = 0.01) -> Figure:
    return Figure(what, value, "TFLOP/s", spread, 10)


def judged(*figures: Figure, device: str = "NVIDIA H100 80GB HBM3") -> Report:
    report = Report(device, list(figures))
    report.troubles += preflight._slow(report)
    return report


def test_a_slow_machine_is_said_to_be_slow() -> None:
    report = judged(figure("GEMM", 410.0), figure("memory copy", 3000.0))
    assert report.troubles == [
        Trouble("slow", "GEMM", "410 TFLOP/s is 41% of 989; at least 60% is expected"),
    ]
    assert not report.sound
    said = "\n".join(report.lines())
    assert "41% of 989 (data sheet)" in said
    assert "peaks of its public data sheet, not measured" in said
    assert said.endswith("the machine is not as it should be: see above")
    assert judged(figure("GEMM", 700.0), figure("micro-step", 1.0)).sound
    assert judged(figure("GEMM", 1.0), device="NVIDIA L4").sound, "there is nothing to compare it with"


def test_unsteady_runs_and_slow_disks_are_said() -> None:
    assert [each[:2] for each in judged(figure("GEMM", 700.0, spread=0.5)).troubles] == [("busy", "GEMM")]
    assert [each[:2] for each in judged(figure("disk write", 0.01)).troubles] == [("slow", "disk write")]


def test_traps_are_said_and_leave_a_machine_sound() -> None:
    report = replace(judged(figure("GEMM", 700.0)), troubles=[Trouble("trap", "NCCL_IB_DISABLE", "is 1")])
    assert report.sound
    assert "trap: NCCL_IB_DISABLE: is 1" in report.lines()


def test_measurements_give_rates() -> None:
    for found in (
        measure.gemm(CPU, 0.02, size=64),
        measure.copy(CPU, 0.02, size=1 << 16),
        measure.micro_step(CPU, 0.02, tokens=64),
    ):
        assert found.value > 0
        assert found.runs >= 1
    assert measure.host_to_device(CPU, 0.1) == "there is no GPU"
    assert "there is one rank" in str(measure.all_reduce(Ranks.single(), 0.1))


def test_a_rate_is_what_is_done_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            return now[0]

    def work() -> None:
        now[0] += 0.25

    monkeypatch.setattr(measure, "time", Clock)
    found = measure._rate("GEMM", "TFLOP/s", 5.0, work, 2.0, CPU)
    assert (found.value, found.spread, found.runs) == (20.0, 0.0, 6)
    assert now[0] <= 2.0


def test_the_disk_is_left_as_it_was(tmp_path: Path) -> None:
    write, read = measure.disk(tmp_path, 0.2, size=1 << 20)
    assert isinstance(write, Figure)
    assert isinstance(read, Figure)
    assert write.value > 0
    assert read.value > 0
    assert list(tmp_path.iterdir()) == []
    assert list(measure.disk(tmp_path / "nowhere", 0.2)) == [f"{tmp_path / 'nowhere'}: No such file or directory"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    monkeypatch.setattr(program, "_BEGAN", program.time.monotonic())
    with pytest.raises(SystemExit) as stop:
        exit_with(program.main)
    return int(stop.value.code or 0)


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(surroundings, "machine", lambda: iter([Trouble("busy", "load", "9 processes")]))
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    for name in ("gemm", "copy", "micro_step"):
        monkeypatch.setattr(measure, name, lambda device, seconds, name=name: figure(name, 1.0))
    assert run(monkeypatch, "--preflight", "--json", "--seconds=5", f"--folder={tmp_path}") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    assert {"disk write", "disk read"} <= {each["what"] for each in told["figures"]}
    assert "all-reduce" in told["skipped"]
    assert {each["what"] for each in told["troubles"]} >= {"load", "NCCL_P2P_DISABLE"}
    assert told["seconds"] < 5
    assert list(tmp_path.iterdir()) == []
    assert run(monkeypatch, "--seconds=-1") == 2
    assert run(monkeypatch, "--json") == 0
    assert "torch" in {each["what"] for each in json.loads(capsys.readouterr().out)}


def test_what_there_is_no_time_for_is_said(tmp_path: Path) -> None:
    report = Report()
    preflight._measure(report, Ranks.single(), tmp_path, began=-1e9, seconds=1.0)
    assert set(report.skipped) == set(preflight.SHARES)
    assert report.figures == []


def test_a_measurement_that_fails_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Figure:
        raise RuntimeError("out of\nmemory")

    for name in ("gemm", "copy", "micro_step"):
        monkeypatch.setattr(measure, name, broken)
    report = Report()
    preflight._measure(report, Ranks.single(), tmp_path, preflight.time.monotonic(), 5.0)
    assert Trouble("fault", "GEMM", "RuntimeError: out of memory") in report.troubles


def test_over_ranks_the_slowest_is_named(start_ranks: Callable[..., Job], tmp_path: Path) -> None:
    with start_ranks(__file__, 2, tmp_path) as job:
        job.end(60)
        said = [path.read_text() for path in job.said]
    told = json.loads((tmp_path / "report.json").read_text()), said
    figures = {each["what"]: each for each in told[0]["figures"]}
    assert figures["GEMM"]["value"] == 1.0
    assert "rank 1, the slowest of 2; the fastest 2" in figures["GEMM"]["note"]
    assert figures["all-reduce"]["note"].startswith("8 MiB over 2 ranks")
    assert "rank 1 has 1 TFLOP/s, another 2: all wait for the slowest" in str(told[0]["troubles"])
    assert sum(each["what"] == "disk write" for each in told[0]["figures"]) == 1


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    mine = 2.0 - int(os.environ["RANK"])
    for name, label in (("gemm", "GEMM"), ("copy", "memory copy"), ("micro_step", "micro-step")):
        setattr(measure, name, lambda device, seconds, label=label: figure(label, mine))
    report = preflight.preflight(5.0, folder, preflight.time.monotonic())
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report.as_dict()))
