"""All that is worth measuring while there is a GPU for minutes: `python -m benchmarks gpu`."""
