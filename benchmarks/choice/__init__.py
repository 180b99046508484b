"""The benchmark of source choice: test errors after fine-tuning every source, and how each score agrees with them."""
