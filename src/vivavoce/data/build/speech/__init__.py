"""Texts become speech: voices, moods, instructions, whole conversations."""
