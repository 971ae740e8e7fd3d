"""Launch parameters of the kernels against those that are chosen now: `python -m benchmarks tune`."""
