"""Sources from the transformers library."""
