"""Files on disk: the cache, checksums, arrays, strict JSON, atomic writes, locks, memory maps, and limits of files."""
