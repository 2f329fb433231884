"""A small BERT with all that it computes on one batch, made by `transformers`: see `reference.json`."""
