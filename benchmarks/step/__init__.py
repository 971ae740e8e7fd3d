"""One training micro-step against its roofline: `python -m benchmarks step`."""
