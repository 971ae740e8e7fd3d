"""Small integers and scales to one file, and back: all that is needed to read an artifact."""
