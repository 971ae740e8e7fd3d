"""Check what a run left behind: `python .ci/check_result.py RUN_DIR/result.json`."""

import json
import math
import sys
from pathlib import Path

path = Path(sys.argv[1])
result = json.loads(path.read_text(encoding="utf-8"))
run_dir = path.parent
problems = []


def check(good: bool, problem: str) -> None:
    if not good:
        problems.append(problem)


check(result["finished"] is True, "the run did not finish")
check(result["legal"] is True and result["violations"] == [], f"violations: {result['violations']}")
for name in ("val_loss", "val_bpb", "bpb_before_compression", "bpb_without_ttt", "tokens_per_second", "train_seconds"):
    check(math.isfinite(result[name]) and result[name] > 0, f"{name} is {result[name]}")
for name in ("params", "steps", "val_tokens", "val_bytes", "code_bytes"):
    check(result[name] >= 1, f"{name} is {result[name]}")
check(result["val_bpb"] < result["bpb_without_ttt"], "test-time training did not help")
from_loss = result["val_loss"] / math.log(2) * result["val_tokens"] / result["val_bytes"]
check(math.isclose(result["val_bpb"], from_loss, rel_tol=1e-6), f"val_bpb should be {from_loss} by val_loss and bytes")
size = (run_dir / "artifact.golf").stat().st_size
check(result["artifact_bytes"] == size, f"artifact_bytes is {result['artifact_bytes']}; the file has {size}")
check(result["total_bytes"] == size + result["code_bytes"], f"total_bytes is {result['total_bytes']}")
check(result["fits"] is (result["total_bytes"] <= 16_000_000), f"fits is {result['fits']}")
check(result["backends"]["bitpack"]["name"] == "native", f"bitpack ran as {result['backends']['bitpack']}")
for name in ("config.json", "log.txt", "metrics.jsonl", "ledger.jsonl", "report.html"):
    file = run_dir / name
    check(file.is_file() and file.stat().st_size > 0, f"{name} is missing or empty")
if problems:
    sys.exit(f"{path}: " + "; ".join(problems))
print(f"{path}: good, {result['val_bpb']:.4f} bits per byte in {size} bytes after {result['steps']} steps")
