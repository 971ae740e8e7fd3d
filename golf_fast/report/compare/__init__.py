"""Runs beside one another: what differs in their settings and results, their curves, and how sure a difference is."""
