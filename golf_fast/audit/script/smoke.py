"""A script imported in a box on a CPU: no network, little memory, little time, and stubs for what it lacks.

This executes the script's top level, which is what `--smoke` asks for; nothing else of the judge executes anything. The
box is a process with resource limits, an empty folder, no variables of ours and, where the kernel allows it, a network
namespace of its own. It is no wall against malice: judge scripts of strangers in a container.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golf_fast import json_files
from golf_fast.errors import InputError

SECONDS = 60
MEMORY_BYTES = 12 << 30
"""Address space, of which importing torch takes a large part."""
FILE_BYTES = 64 << 20
PROCESSES = 256

_CHILD = """
import importlib.abc, importlib.machinery, importlib.util, json, resource, sys, types
path, seconds, memory, file_bytes, processes = sys.argv[1], *map(int, sys.argv[2:6])
def limit(kind, most):
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
limit(resource.RLIMIT_CPU, seconds)
limit(resource.RLIMIT_AS, memory)
limit(resource.RLIMIT_FSIZE, file_bytes)
limit(resource.RLIMIT_CORE, 0)
import socket
def refused(*arguments, **named):
    raise OSError("the box has no network")
socket.socket.connect = socket.socket.connect_ex = refused
socket.getaddrinfo = socket.create_connection = refused
stubbed = []
class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)
    def __call__(self, *arguments, **named):
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else Anything("result")
    def __mro_entries__(self, bases):
        return (object,)
    def __getitem__(self, key):
        return Anything("item")
class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, where=None, target=None):
        if name.split(".")[0] in sys.stdlib_module_names or name.split(".")[0] in ("torch", "numpy"):
            return None
        stubbed.append(name)
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        return spec
    def create_module(self, spec):
        return Anything(spec.name)
    def exec_module(self, module):
        module.__path__ = []
import torch
sys.meta_path.append(Stubs())
spec = importlib.util.spec_from_file_location("judged_script", path)
module = importlib.util.module_from_spec(spec)
sys.modules["judged_script"] = module
sys.argv = [path]
import contextlib, io, time
began = time.perf_counter()
error = None
try:
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
except BaseException as caught:
    error = f"{type(caught).__name__}: {caught}"[:300]
seconds = time.perf_counter() - began
wanted = {
    "dim": ("model_dim", "dim", "n_embd", "d_model", "embedding_dim"),
    "layers": ("num_layers", "n_layer", "layers", "depth", "n_layers"),
    "vocab": ("vocab_size", "vocab"),
}
found = {}
holders = [v for k, v in vars(module).items() if isinstance(v, type) and v.__module__ == "judged_script"]
sized = ("num_layers", "model_dim", "vocab_size", "n_layer", "dim")
holders = [h for h in holders if any(hasattr(h, n) for n in sized)]
tables = [v["model"] for v in vars(module).values() if isinstance(v, dict) and isinstance(v.get("model"), dict)]
for key, names in wanted.items():
    for name in names:
        values = [table.get(name) for table in tables] + [getattr(h, name, None) for h in holders]
        values += [vars(module).get(name), vars(module).get(name.upper())]
        values = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        if values:
            found[key] = values[0]
            break
sys.__stdout__.write("\\n" + json.dumps({"seconds": seconds, "error": error, "stubbed": sorted(set(stubbed)), **found}))
"""


@dataclass(frozen=True)
class Smoke:
    """What importing a script showed."""

    imported: bool
    seconds: float
    """Wall time of the import, without that of torch."""
    network: str
    """`own namespace`, or `refused in Python` where the kernel gives none."""
    error: str | None
    """Why it was not imported."""
    stubbed: tuple[str, ...] = ()
    """Packages that this machine lacks."""
    dim: int | None = None
    layers: int | None = None
    vocab: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self) | {"stubbed": list(self.stubbed)}

    def lines(self) -> list[str]:
        """What the import found, as lines for people."""
        if not self.imported:
            return [f"smoke: not imported ({self.error})"]
        stubs = f"; stubs for {', '.join(self.stubbed)}" if self.stubbed else ""
        found = f"dim {self.dim}, layers {self.layers}, vocab {self.vocab}".replace("None", "unknown")
        return [f"smoke: imported in {self.seconds:.2f} s, {found}{stubs}; network {self.network}"]


def smoke(text: str, seconds: int = SECONDS) -> Smoke:
    """Import a script's text in a box.

    Args:
        text: the script, out of its wrapping.
        seconds: of CPU time, and three times that on the wall clock.
    """
    namespace = _namespace()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "judged_script.py"
        script.write_text(text, encoding="utf-8")
        limits = [str(seconds), str(MEMORY_BYTES), str(FILE_BYTES), str(PROCESSES)]
        command = [*namespace, sys.executable, "-I", "-c", _CHILD, str(script), *limits]
        variables = {"HOME": folder, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        began = time.perf_counter()
        try:
            done = subprocess.run(
                command, cwd=folder, env=variables, capture_output=True, text=True, timeout=3 * seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return Smoke(False, time.perf_counter() - began, _said(namespace), f"it took longer than {3 * seconds} s")
    return _read(done, namespace, time.perf_counter() - began)


def _read(done: subprocess.CompletedProcess[str], namespace: list[str], wall: float) -> Smoke:
    try:
        found = json_files.parse(done.stdout.rpartition("\n")[2], "what the process says")
    except InputError:
        reason = done.stderr.strip().rpartition("\n")[2][:300] or f"the process ended with {done.returncode}"
        return Smoke(False, wall, _said(namespace), reason)
    return Smoke(
        imported=found["error"] is None,
        seconds=found["seconds"],
        network=_said(namespace),
        error=found["error"],
        stubbed=tuple(found["stubbed"]),
        dim=found.get("dim"),
        layers=found.get("layers"),
        vocab=found.get("vocab"),
    )


def _namespace() -> list[str]:
    """The command that gives a process a network of its own, with nothing in it; empty where that is not allowed."""
    program = shutil.which("unshare")
    if program is None:
        return []
    for options in (["--net"], ["--net", "--map-root-user"]):
        command = [program, *options]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return []


def _said(namespace: list[str]) -> str:
    return "own namespace" if namespace else "refused in Python"
