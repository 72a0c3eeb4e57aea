"""Connectors: encoder states [B, F, D] -> embeddings of the language model's width."""
