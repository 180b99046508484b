"""This process: its cores and memory, how it ends, and the packages that it can import."""
