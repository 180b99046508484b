"""Training on target data: MoNA and other methods, models that are fitted instead, and trained models to use."""
