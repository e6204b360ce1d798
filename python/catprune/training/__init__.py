"""Training a model on token blocks, with early checkpoints."""
