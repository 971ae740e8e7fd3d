"""The stages of one run, in order, and what joins them."""

from golf_fast.pipeline.run import execute

__all__ = ["execute"]
