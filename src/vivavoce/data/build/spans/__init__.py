"""Text partly replaced by speech: when words are said, and where to cut."""
