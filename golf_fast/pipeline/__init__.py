"""The stages of one run, in order, and what joins them."""
