"""Does a score choose well? The truth by fine-tuning every source, and how each score agrees with it."""
