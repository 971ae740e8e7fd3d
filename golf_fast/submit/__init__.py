"""Runs that have ended -> the folder of a record, with one file that does it all again."""
