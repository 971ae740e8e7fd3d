"""Recorded measurements as Markdown and as a plot: `python -m benchmarks report`."""
