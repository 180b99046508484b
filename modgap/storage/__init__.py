"""Files that modgap keeps: cache, digests, atomic writes, memory maps."""
