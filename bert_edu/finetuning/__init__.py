"""Fine-tuning: one encoder, four kinds of tasks (chapters 13 to 15)."""
