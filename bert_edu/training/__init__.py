"""How a model is trained: optimiser and schedule, metrics, seeds, checkpoints, and the loop."""
