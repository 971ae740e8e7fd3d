"""A published script or a run -> a verdict on the rules of the challenge."""
