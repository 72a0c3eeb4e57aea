"""Noise, rooms, telephones and the rest of what happens to recordings."""
