"""Examines the machine: which backends will run and why, and whether it is as fast as it should be."""

from golf_fast.doctor.probes import Finding, examine

__all__ = ["Finding", "examine"]
