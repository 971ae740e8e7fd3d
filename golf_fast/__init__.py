"""golf_fast: train, compress and score a language model under the rules of Parameter Golf."""

import os

__version__ = "0.1.0"

# Threads that wait for each other in a busy loop starve each other as soon as anything else runs on the machine: a
# training step of `tiny` took 5.4 s with other jobs running and 0.26 s without. libgomp reads this variable when torch
# loads it, so it is set before that; ten thousand iterations of the loop keep the speed of an idle machine.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
