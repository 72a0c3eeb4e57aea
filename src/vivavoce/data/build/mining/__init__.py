"""Requests and responses found in long recordings."""
