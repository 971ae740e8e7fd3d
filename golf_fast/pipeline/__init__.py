"""The stages of a run in order, and the code that connects them."""
