"""The whole pipeline: text -> tokens -> averaged weights -> artifact -> bits per byte.

python -m golf_fast.train [RECIPE] [--train.max-seconds 600 ...]
torchrun --standalone --nproc_per_node=8 -m golf_fast.train seed
"""

from golf_fast.console import exit_with
from golf_fast.pipeline.run import main

__all__ = ["main"]

if __name__ == "__main__":
    exit_with(main, prints=False)
