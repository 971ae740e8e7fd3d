"""golf_fast: train, compress and score a language model under the rules of Parameter Golf."""

import os

__version__ = "0.1.0"

# Threads that wait for each other in a busy loop starve each other as soon as anything else runs on the machine: a
# training step was then 40 times slower. libgomp reads this when torch loads it, so it is set before that; ten thousand
# turns of the loop, some microseconds, cost an idle machine nothing.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
