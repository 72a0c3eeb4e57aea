"""Codes and text become one sequence and back: vocabulary, layouts, readers, constraints, chat, loss masks.

Imports `codecs.contract` only, never a codec's model, and reads no audio files.
"""
