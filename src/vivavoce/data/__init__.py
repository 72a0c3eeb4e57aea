"""Conversations on disk: readers of published data, what is in them, and what is wrong with them.

A row is one conversation in the transformers / OpenAI message shape. Nothing here knows a model; imports
nothing to the right of `tokens`.
"""
