"""Where the text comes from, and how it becomes what a model is trained on."""
