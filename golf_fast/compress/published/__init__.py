"""Models that other programs wrote, as tensors of an artifact."""
