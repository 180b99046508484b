"""Training on target data: MoNA, its baselines, and what they are made of."""
