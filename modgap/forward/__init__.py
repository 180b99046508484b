"""Running samples through a source: setup, batches, probe heads, logits."""
