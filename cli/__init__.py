"""The command line: one command a file; each parses, calls the functions that do the work, and writes."""
