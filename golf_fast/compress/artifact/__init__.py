"""The artifact format: integers and scales to one file, and back. Reading an artifact needs nothing else."""
