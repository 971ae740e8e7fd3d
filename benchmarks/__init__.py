"""What is measured, against whom, and what came out. Run from the checkout: `python -m benchmarks`."""
