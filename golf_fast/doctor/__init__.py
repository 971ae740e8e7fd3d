"""The machine: what will run where and why, and whether it is as fast as it should be."""

from golf_fast.doctor.probes import Finding, examine

__all__ = ["Finding", "examine"]
