"""Submissions: finished runs to the folder of a record, with a single file that repeats the run."""
