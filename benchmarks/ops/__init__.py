"""What each op takes, against whom: `python -m benchmarks`."""
