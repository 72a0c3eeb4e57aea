"""The aligned voice: the language model's own codec tokens, locked to words or phones."""
