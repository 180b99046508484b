"""Files on disk: the cache, checksums, arrays, strict JSON, atomic writes, locks and memory maps."""
