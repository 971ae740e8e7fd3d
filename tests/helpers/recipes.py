"""Lines of the record of recipes that nobody measured."""

from typing import Any

from golf_fast.recipes.measured import Measured


def measured_run(seed: int, bpb: float, **changed: Any) -> Measured:
    fields: dict[str, Any] = {
        "recipe": "tiny",
        "settings": "",
        "time": "",
        "command": f"python -m golf_fast.train tiny --seed={seed}",
        "commit": "abc1234",
        "device": "CPU, 2 threads",
        "cpu": "a processor",
        "world_size": 1,
        "versions": {"torch": "2"},
        "data": "embedded-2048",
        "steps": 100,
        "train_seconds": 10.0,
        "params": 5,
        "bpb_without_adapting": 1.8,
        "bpb_before_compression": 1.7,
        "artifact_bytes": 1000,
        "code_bytes": 100,
        "legal": True,
        "violations": [],
        "not_judged": [],
    }
    return Measured(seed=seed, bpb=bpb, **(fields | changed))
