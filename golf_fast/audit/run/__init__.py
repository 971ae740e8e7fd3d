"""A run directory -> a verdict on the rules, by computing again what can be computed again."""
