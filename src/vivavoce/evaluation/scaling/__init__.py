"""Scaling laws: what small runs say of large ones, with intervals, and where they say nothing."""
