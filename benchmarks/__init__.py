"""Benchmarks: what is measured, the peers to compare with, and the recorded results. Run `python -m benchmarks` in the
checkout."""
