"""This process: its cores, devices and memory, how it ends, and the packages that it can import."""
