"""Two machines of one rank each are one machine of two: two agents on this machine meet at one rendezvous."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.ranks import free_port
from helpers.small_run import SMALL, text

import golf_fast
from golf_fast.json_files import lines, read_object

SAME = ("val_loss", "val_bpb", "bpb_before_compression", "artifact_bytes", "world_size", "steps")


def test_two_machines_are_one_with_as_many_ranks(run_ranks: Callable[..., None], tmp_path: Path) -> None:
    arguments = [*SMALL, f"--data.text={text(tmp_path)}", f"--runs-dir={tmp_path / 'runs'}"]
    agent = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=it", "--local-addr=127.0.0.1"),
        *("-m", "golf_fast.train", "tiny", *arguments, "--run-id=two"),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(golf_fast.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    node = {"cwd": tmp_path, "env": environment, "stderr": subprocess.STDOUT, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(agent, **node) as first, subprocess.Popen(agent, **node) as second:  # type: ignore[call-overload]
        said = [each.communicate(timeout=200)[0] for each in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    script = tmp_path / "one.py"
    script.write_text(
        "from golf_fast.console import exit_with\nfrom golf_fast.train.__main__ import main\nexit_with(main)\n"
    )
    run_ranks(script, 2, "tiny", *arguments, "--run-id=one", f"--data.built={tmp_path / 'data' / 'built'}")
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    results = [read_object(run / "result.json", "it") for run in (one, two)]
    assert results[0]["world_size"] == 2
    for name in SAME:
        assert results[0][name] == results[1][name], name
    losses = [[each["loss"] for each in lines(run / "metrics.jsonl") if each["kind"] == "step"] for run in (one, two)]
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    for name in ("token_losses", "artifact.golf", "ledger.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
