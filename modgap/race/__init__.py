"""From data to a model: a race of baselines, linear probes and trainings, and one test at the end."""
