"""The pass of samples through a source: preparation, batches, heads, logits."""
