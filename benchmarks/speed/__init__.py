"""Ten figures of docs/benchmarks.md as ratios of two times of one run, and their history."""
